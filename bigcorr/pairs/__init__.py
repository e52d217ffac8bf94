"""All pairs of channels: measures as Gram matrices, their significance, and the ranking."""
