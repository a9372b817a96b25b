#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <vector>

#include "ipc/connection.h"
#include "ipc/test_loop.h"

namespace daemoneye::ipc {
namespace {

using testing::run_until;
using testing::TempDir;

struct Server {
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create());
  std::vector<std::pair<UniqueFd, PeerCredentials>> accepted;
  Result<std::unique_ptr<Listener>> open(const std::string& path, const std::string& group = "") {
    return Listener::open(*loop, path, group, [this](UniqueFd socket, PeerCredentials peer) {
      accepted.emplace_back(std::move(socket), peer);
    });
  }
};

Deadline soon() { return Deadline::after(std::chrono::seconds(20)); }

// The socket file of a server that was killed.
void leave_stale_socket(const std::string& path) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(fd.get(), 1), 0);
}

TEST(Listener, AcceptsPeersWithTheirCredentials) {
  const TempDir dir;
  Server server;
  const auto listener = server.open(dir.file("s.sock"));
  ASSERT_TRUE(listener) << listener.error().message;
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 40; ++i) {
    auto client = connect_to(dir.file("s.sock"), soon());
    ASSERT_TRUE(client) << client.error().message;
    clients.push_back(std::move(*client));
  }
  ASSERT_TRUE(run_until(*server.loop, [&] { return server.accepted.size() == 40; }));
  for (const auto& [socket, peer] : server.accepted) {
    EXPECT_EQ(peer.pid, ::getpid());
    EXPECT_EQ(peer.uid, ::geteuid());
  }
}

TEST(Listener, GivesTheFileItsModeAndGroupWhateverTheUmask) {
  const TempDir dir;
  const gid_t gid = ::getegid();  // everybody may give a file to a group of his own
  const group* mine = ::getgrgid(gid);
  ASSERT_NE(mine, nullptr);
  const std::string name = mine->gr_name;
  for (const mode_t mask : {mode_t{0}, mode_t{0077}}) {
    Server server;
    const mode_t before = ::umask(mask);
    const auto listener = server.open(dir.file("s.sock"), name);
    ::umask(before);
    ASSERT_TRUE(listener) << listener.error().message;
    struct stat found{};
    ASSERT_EQ(::stat(dir.file("s.sock").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 0660u);
    EXPECT_EQ(found.st_gid, gid);
  }
}

TEST(Listener, RefusesAGroupThatDoesNotExistAndLeavesNothing) {
  const TempDir dir;
  Server server;
  const auto listener = server.open(dir.file("s.sock"), "no-such-group-here");
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().message, "group no-such-group-here does not exist");
  EXPECT_NE(::access(dir.file("s.sock").c_str(), F_OK), 0);
}

TEST(Listener, TakesThePlaceOfADeadServer) {
  const TempDir dir;
  leave_stale_socket(dir.file("s.sock"));
  ASSERT_EQ(connect_to(dir.file("s.sock"), soon()).error().code, Errc::unavailable);
  Server server;
  const auto listener = server.open(dir.file("s.sock"));
  ASSERT_TRUE(listener) << listener.error().message;
  EXPECT_TRUE(connect_to(dir.file("s.sock"), soon()));
}

TEST(Listener, LeavesALiveServerAlone) {
  const TempDir dir;
  Server first, second;
  const auto listener = first.open(dir.file("s.sock"));
  ASSERT_TRUE(listener);
  const auto refused = second.open(dir.file("s.sock"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unavailable);
  EXPECT_EQ(refused.error().message, dir.file("s.sock") + ": another server is listening there");
  EXPECT_TRUE(connect_to(dir.file("s.sock"), soon()));
}

TEST(Listener, LeavesAFileThatIsNoSocketAlone) {
  const TempDir dir;
  std::ofstream(dir.file("precious")) << "data";
  Server server;
  const auto refused = server.open(dir.file("precious"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_input);
  std::string content;
  std::ifstream(dir.file("precious")) >> content;
  EXPECT_EQ(content, "data");
}

TEST(Listener, NamesAFolderThatIsNotThereAndAPathThatIsTooLong) {
  const TempDir dir;
  Server server;
  const auto missing = server.open(dir.file("no/folder.sock"));
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find(dir.file("no/folder.sock")), std::string::npos);
  const auto longer = server.open(dir.file(std::string(200, 'x')));
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().code, Errc::invalid_input);
  EXPECT_NE(longer.error().message.find("at most 107"), std::string::npos);
}

TEST(Listener, RemovesItsFileButNotItsSuccessors) {
  const TempDir dir;
  Server server;
  {
    const auto listener = server.open(dir.file("s.sock"));
    ASSERT_TRUE(listener);
  }
  EXPECT_NE(::access(dir.file("s.sock").c_str(), F_OK), 0);
  {
    const auto listener = server.open(dir.file("s.sock"));
    ASSERT_TRUE(listener);
    ASSERT_EQ(::rename(dir.file("s.sock").c_str(), dir.file("moved").c_str()), 0);
    leave_stale_socket(dir.file("s.sock"));
  }
  EXPECT_EQ(::access(dir.file("s.sock").c_str(), F_OK), 0);
}

TEST(Listener, TurnsPeersAwayWhenNoDescriptorIsLeft) {
  const TempDir dir;
  Server server;
  const auto listener = server.open(dir.file("s.sock"));
  ASSERT_TRUE(listener);
  // One peer is accepted first, so that the listener has its reserve.
  const auto first = connect_to(dir.file("s.sock"), soon());
  ASSERT_TRUE(first);
  ASSERT_TRUE(run_until(*server.loop, [&] { return server.accepted.size() == 1; }));

  const auto second = connect_to(dir.file("s.sock"), soon());
  ASSERT_TRUE(second);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = std::min<rlim_t>(before.rlim_cur, 256);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  std::vector<UniqueFd> eaten;
  while (UniqueFd copy{::dup(first->get())}) eaten.push_back(std::move(copy));
  const int why = errno;
  server.loop->post([&] { server.loop->post([&] { server.loop->stop(); }); });
  server.loop->run();
  eaten.clear();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);

  EXPECT_EQ(why, EMFILE);
  EXPECT_EQ(listener.value()->refused(), 1u);
  EXPECT_EQ(server.accepted.size(), 1u);
  char byte = 0;
  EXPECT_EQ(::recv(second->get(), &byte, 1, MSG_DONTWAIT), 0);  // it sees the end
  // And afterwards it goes on.
  const auto third = connect_to(dir.file("s.sock"), soon());
  ASSERT_TRUE(third);
  EXPECT_TRUE(run_until(*server.loop, [&] { return server.accepted.size() == 2; }));
}

TEST(ConnectTo, SaysThatNobodyListens) {
  const TempDir dir;
  const auto refused = connect_to(dir.file("s.sock"), soon());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unavailable);
  EXPECT_EQ(refused.error().message, dir.file("s.sock") + ": no server is listening there");
}

TEST(ConnectTo, GivesUpOnAFullBacklogAtItsDeadline) {
  const TempDir dir;
  Server server;  // its loop never runs, so nobody is accepted
  const auto listener = server.open(dir.file("s.sock"));
  ASSERT_TRUE(listener);
  std::vector<UniqueFd> clients;
  Result<UniqueFd> client;
  for (int i = 0; i < 2 * Listener::backlog; ++i) {
    client = connect_to(dir.file("s.sock"), Deadline::after(std::chrono::milliseconds(30)));
    if (!client) break;
    clients.push_back(std::move(*client));
  }
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, Errc::timeout);
}

}  // namespace
}  // namespace daemoneye::ipc
