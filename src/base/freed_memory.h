// What the allocator does with memory that is free again.
#pragma once

namespace daemoneye::base {

// Keeps some megabytes of it. For a program that asks and ends: else what one block of the store was unpacked into is
// given back to the kernel, and is asked for again page by page for the next one. Before there are other threads.
void keep_freed_memory();

}  // namespace daemoneye::base
