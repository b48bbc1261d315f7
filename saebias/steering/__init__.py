"""Interventions on the residual stream, with matched controls: what changes when a latent or a direction is edited."""
