// What a process that may only read a file can do to those who write it: hold read locks on it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace daemoneye::db::testing {

// Another process with locks on these bytes of the file, as the group of readers may take them for reading. A count of
// 0: to its end.
class ReadLocks {
 public:
  ReadLocks(const std::string& path, off_t from, off_t count, short type = F_RDLCK) {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    child_ = ::fork();
    if (child_ == 0) {
      // The writer's lock file above all: its lock would be ours, too.
      for (int fd = 3; fd < 1024; ++fd) {
        if (fd != ready[1]) ::close(fd);
      }
      const int fd = ::open(path.c_str(), type == F_RDLCK ? O_RDONLY : O_RDWR);
      struct flock lock{};
      lock.l_type = type;
      lock.l_whence = SEEK_SET;
      lock.l_start = from;
      lock.l_len = count;
      const char done = ::fcntl(fd, F_SETLK, &lock) == 0 ? 'y' : 'n';
      static_cast<void>(::write(ready[1], &done, 1) == 1);
      while (true) ::pause();
    }
    char done = 'n';
    EXPECT_EQ(::read(ready[0], &done, 1), 1);
    EXPECT_EQ(done, 'y');
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~ReadLocks() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  ReadLocks(const ReadLocks&) = delete;
  ReadLocks& operator=(const ReadLocks&) = delete;

 private:
  pid_t child_ = -1;
};

}  // namespace daemoneye::db::testing
