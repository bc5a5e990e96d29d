"""WebAssembly: networks written as modules, and the machine that runs them."""
