"""What a captioner's gender bias is, in numbers with intervals: from labelled captions and exact probabilities to flat rows."""
