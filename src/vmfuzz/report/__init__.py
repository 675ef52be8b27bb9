"""What campaigns have shown, as a page, as Markdown and as data: the matrix of checks and processors, findings, outcomes, coverage."""
