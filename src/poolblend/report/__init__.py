"""What is shown: tables, pictures, the notebook's page."""
