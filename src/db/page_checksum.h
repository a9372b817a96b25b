// A checksum at the end of each page of a database file, kept by a VFS below SQLite: a flipped bit anywhere in the file
// is an error when its page is read, and never an answer. docs/formats/store.md has the layout.
//
// A page carries one when the file was made with page_reserved_bytes reserved on each page (byte 20 of the file); files
// without are passed through. The WAL has checksums of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace daemoneye::db {

inline constexpr int page_reserved_bytes = 8;

// XXH3-64 over the page without its last 8 bytes, seeded with the page's number (from 1).
std::uint64_t page_checksum(std::string_view page_without_checksum, std::uint64_t page_number);

// The name of the VFS, registered when first asked for. It stands on whichever VFS is SQLite's default.
const char* page_checksum_vfs();

// A file control of that VFS (SQLite's own opcodes lie below 100): the argument is an int, the page size of a file that
// will carry checksums. For a writer that does not begin with page 1, which would say so.
inline constexpr int set_page_size_control = 0x44450001;

// The page whose checksum last differed in this thread, and none afterwards: for the error's text. 0: none.
std::uint64_t take_damaged_page();

}  // namespace daemoneye::db
