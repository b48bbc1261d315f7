"""Vision-language models and text decoders: loading, hooks, inputs, scoring, generation."""
