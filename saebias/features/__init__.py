"""Which latents carry visible gender and which carry the stereotype: contrasts, attributions, selection without double use, matched controls."""
