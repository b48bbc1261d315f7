-- Latents by what they follow among words: feminine form with the meaning held fixed, or meaning with the form held fixed.
create table latent_grammar (
    run_id      varchar not null,
    sae_id      varchar not null,
    layer       integer not null,
    latent      integer not null,
    language    varchar not null,
    evidence    varchar not null,
    follows     varchar not null check (follows in ('form', 'meaning')),
    association double not null check (association between -1.000001 and 1.000001),
    p           double not null,
    q           double not null,
    selected    boolean not null
);
comment on table latent_grammar is 'Stratified rank association, -1 to 1; > 0 fires more on feminine form, or where a woman is meant. Latents silent on these words are left out.';
comment on column latent_grammar.q is 'Benjamini-Hochberg over all latents of the dictionary, silent ones counted.';
