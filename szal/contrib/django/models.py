"""No models: but where this module is, Django tells the application of migrations."""
