"""How fast and how good the training of dictionaries is, beside the public trainers: `python -m saebias.sae.bench --help`."""
