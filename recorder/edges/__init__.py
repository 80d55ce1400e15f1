"""From packets to edges: who opened what to whom, what became of it, and which interface proves it."""
