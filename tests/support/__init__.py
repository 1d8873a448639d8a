"""What tests that need servers share: broker processes, other people's clients, sample records."""
