"""Give a site's broker, hub and nodes their certificates: who may speak to whom, and who no longer."""
