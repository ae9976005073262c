"""Decodes pictures that could hurt the service in processes of their own: `pool` keeps them, `child` is one."""
