"""What `make` does with an installation in Google Cloud. Never part of what is deployed."""
