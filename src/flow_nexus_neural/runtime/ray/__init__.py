"""Nodes on the machines of a Ray cluster.

    server ---- driver (a Ray driver, kept by `keeper`) ---- HostAgent, one actor per machine
                                                                  |
                                                             host process: a local runtime
                                                                  | zygote
                                                             node  node  node

The server never imports Ray. A node's frames pass through as bytes; only the server reads and checks them.
"""
