#include "base/memory.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace daemoneye::base {

void release_free_memory() { ::malloc_trim(0); }

void release_read_pages() {
  const auto release = [](dl_phdr_info* object, std::size_t, void*) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
      const auto& part = object->dlpi_phdr[i];
      // Of a part that can be written some pages are ours alone, and would come back as they are in the file.
      if (part.p_type != PT_LOAD || (part.p_flags & PF_W) != 0) continue;
      const auto begin = (object->dlpi_addr + part.p_vaddr) / page * page;
      const auto end = object->dlpi_addr + part.p_vaddr + part.p_memsz;
      // Where the kernel refuses they just stay.
      ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
    return 0;
  };
  ::dl_iterate_phdr(release, nullptr);
}

}  // namespace daemoneye::base
