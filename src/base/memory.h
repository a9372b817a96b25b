// Resident memory that a program no longer needs, given back. What it needs again comes again.
#pragma once

namespace daemoneye::base {

// What was freed and the allocator keeps.
void release_free_memory();

// Pages of programs and libraries that were read and nobody has written: the code and tables of a start, most of them.
// They stay in the page cache, from where those that are used come back, a minor fault each sixteen.
void release_read_pages();

}  // namespace daemoneye::base
