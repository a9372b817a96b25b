#include "base/memory.h"

#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace daemoneye::base {
namespace {

// The parts of this program that nobody writes.
std::vector<std::span<const char>> read_only_parts() {
  std::vector<std::span<const char>> parts;
  ::dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* out) {
        for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
          const auto& part = object->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || (part.p_flags & PF_W) != 0) continue;
          static_cast<std::vector<std::span<const char>>*>(out)->emplace_back(
              // An address is all that the loader tells.
              reinterpret_cast<const char*>(object->dlpi_addr + part.p_vaddr),  // NOLINT(performance-no-int-to-ptr)
              part.p_filesz);
        }
        return 1;  // the first object is the program itself
      },
      &parts);
  return parts;
}

// Over everything that is mapped, also what the sanitizer keeps between variables as no one's.
__attribute__((no_sanitize("address"))) std::uint64_t sum_of(const std::vector<std::span<const char>>& parts) {
  std::uint64_t sum = 0;
  for (const auto& part : parts) {
    const char* bytes = part.data();
    for (std::size_t i = 0; i < part.size(); ++i) sum = sum * 31 + static_cast<unsigned char>(bytes[i]);
  }
  return sum;
}

std::uint64_t resident_file_kb() {
  std::uint64_t kb = 0;
  std::unique_ptr<FILE, int (*)(FILE*)> status(std::fopen("/proc/self/status", "r"), &std::fclose);
  std::array<char, 256> line{};
  while (status && std::fgets(line.data(), line.size(), status.get()) != nullptr) {
    constexpr std::string_view name = "RssFile:";
    if (std::string_view(line.data()).starts_with(name)) kb = std::strtoull(line.data() + name.size(), nullptr, 10);
  }
  return kb;
}

std::array<int, 4096> written{1, 2, 3};  // not as it is in the file

TEST(Memory, ReadPagesAreGivenBackAndComeAgainAsTheyWere) {
  const auto parts = read_only_parts();
  ASSERT_FALSE(parts.empty());
  for (std::size_t i = 0; i < written.size(); ++i) written[i] = static_cast<int>(i) + 7;
  std::size_t all_kb = 0;
  for (const auto& part : parts) all_kb += part.size() / 1024;
  const auto sum = sum_of(parts);
  const auto before = resident_file_kb();
  ASSERT_GT(before, all_kb / 2);
  release_read_pages();
  const auto after = resident_file_kb();
  EXPECT_LT(after, before);
  EXPECT_EQ(sum_of(parts), sum);
  for (std::size_t i = 0; i < written.size(); ++i) ASSERT_EQ(written[i], static_cast<int>(i) + 7);
}

}  // namespace
}  // namespace daemoneye::base
