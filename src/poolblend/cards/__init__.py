"""One typed model for each artefact's card."""
