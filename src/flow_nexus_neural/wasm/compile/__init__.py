"""Networks written as WebAssembly modules: text and memory layout, decided from the plan alone."""
