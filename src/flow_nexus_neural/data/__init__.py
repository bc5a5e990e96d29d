"""From a name, a path or inline JSON to splits and shards. numpy only."""
