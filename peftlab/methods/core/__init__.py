"""What methods are made of: the contract, the tuned model, layers, contexts, channel importance, HF peft."""
