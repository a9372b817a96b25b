#include "cli/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace daemoneye::cli {
namespace {

constexpr std::size_t most_held = 1024 * 1024;

bool write_all(int file, const char* text, std::size_t size) {
  while (size > 0) {
    const auto written = ::write(file, text, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text += written;
    size -= static_cast<std::size_t>(written);
  }
  return true;
}

}  // namespace

bool Spool::move_to_file() {
  if (!file_) {
    const char* given = std::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): nobody changes it
    const std::string folder = given != nullptr && *given == '/' ? given : "/tmp";
    file_ = base::UniqueFd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!file_) {
      std::string name = folder + "/daemoneye-XXXXXX";
      file_ = base::UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
      if (file_) ::unlink(name.c_str());
    }
  }
  if (!file_ || !write_all(file_.get(), held_.data(), held_.size())) {
    failed_ = true;
    return false;
  }
  held_.clear();
  return true;
}

Result<int> Spool::file() {
  if (!move_to_file() || ::lseek(file_.get(), 0, SEEK_SET) != 0) {
    return fail(Errc::io, "cannot keep the output in a temporary file; TMPDIR says where");
  }
  return file_.get();
}

Spool::int_type Spool::overflow(int_type c) {
  if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
  const char one = traits_type::to_char_type(c);
  return xsputn(&one, 1) == 1 ? c : traits_type::eof();
}

std::streamsize Spool::xsputn(const char* text, std::streamsize size) {
  const auto count = static_cast<std::size_t>(size);
  if (full_ || failed_) return 0;
  if (bytes_ + count > most_) {
    full_ = true;
    return 0;
  }
  bytes_ += count;
  lines_ += static_cast<std::size_t>(std::count(text, text + count, '\n'));
  held_.append(text, count);
  if (held_.size() >= most_held && !move_to_file()) return 0;
  return size;
}

}  // namespace daemoneye::cli
