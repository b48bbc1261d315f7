-- The prompts that captions were put to the model with, one per language.
create table extract_prompts (
    run_id            varchar not null,
    prompt_id         varchar not null,
    language          varchar not null,
    prompt            varchar not null,
    chat_template     boolean not null,
    caption_in_prompt boolean not null,
    primary key (run_id, prompt_id)
);
comment on table extract_prompts is 'The prompts behind token_rows.prompt_id.';
comment on column extract_prompts.caption_in_prompt is 'True where the caption stands inside the prompt: all that follows it reads its words.';
