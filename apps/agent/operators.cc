#include "agent/operators.h"

#include <unistd.h>

#include <algorithm>

#include "base/text.h"
#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::apps {

using observe::Level;

Operators::Operators(EventLoop& loop, Options options, Handlers handlers)
    : loop_(loop), options_(std::move(options)), handlers_(std::move(handlers)) {}
Operators::~Operators() = default;

Result<std::unique_ptr<Operators>> Operators::open(EventLoop& loop, Options options, Handlers handlers) {
  std::unique_ptr<Operators> operators(new Operators(loop, std::move(options), std::move(handlers)));
  DE_TRY(operators->listener_,
         ipc::Listener::open(loop, operators->options_.socket_path, operators->options_.reader_group,
                             [raw = operators.get()](UniqueFd socket, const ipc::PeerCredentials& credentials) {
                               raw->on_accept(std::move(socket), credentials);
                             }));
  return operators;
}

void Operators::on_accept(UniqueFd socket, const ipc::PeerCredentials& credentials) {
  const auto refuse = [&](std::string_view why) {
    observe::counter("daemoneye_ipc_refused_peers_total", "Connections refused on the listening socket").add();
    observe::log(Level::warn, "ipc", "peer refused",
                 {{"why", why}, {"uid", std::uint64_t{credentials.uid}}, {"pid", std::int64_t{credentials.pid}}});
  };
  Peer peer;
  peer.credentials = credentials;
  const bool ourselves = credentials.uid == ::geteuid() || credentials.uid == 0;
  peer.admin = ourselves || ipc::peer_in_group(socket.get(), credentials, options_.admin_group);
  peer.reader = peer.admin || (!options_.reader_group.empty() &&
                               ipc::peer_in_group(socket.get(), credentials, options_.reader_group));
  peer.collector = ourselves || (options_.collector_uid && credentials.uid == *options_.collector_uid);
  if (!peer.reader && !peer.collector) return refuse("neither root nor in the readers' group");
  const auto of_same_user = static_cast<std::size_t>(std::ranges::count_if(
      peers_, [&](const auto& other) { return other.second.credentials.uid == credentials.uid; }));
  const bool privileged = ourselves || peer.collector;
  if (peers_.size() >= max_peers) return refuse("too many connections");
  // A reader's idle connections keep nobody else out.
  if (!privileged && (of_same_user >= max_peers_a_user || peers_.size() >= max_peers - reserved_peers)) {
    return refuse("too many connections of readers");
  }
  const std::uint64_t id = next_id_++;
  auto connection =
      ipc::Connection::adopt(loop_, std::move(socket),
                             {.on_message = [this, id](ipc::Message message) { on_message(id, std::move(message)); },
                              .on_close = [this, id](const std::string&) { drop(id); },
                              .on_drained = {}});
  if (!connection) return refuse(connection.error().message);
  peer.connection = std::move(*connection);
  peers_.emplace(id, std::move(peer));
}

void Operators::drop(std::uint64_t id) { peers_.erase(id); }

void Operators::on_message(std::uint64_t id, ipc::Message message) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  if (std::holds_alternative<ipc::Hello>(message)) {
    if (!peer.collector) {
      observe::log(Level::warn, "ipc", "a peer that is not the collector greeted as one",
                   {{"uid", std::uint64_t{peer.credentials.uid}}});
      return drop(id);
    }
    auto connection = std::move(peer.connection);
    peers_.erase(found);
    return handlers_.on_collector(std::move(connection), std::move(message));
  }
  const auto* request = std::get_if<ipc::Request>(&message);
  if (request == nullptr || !peer.reader) return drop(id);
  switch (request->kind) {
    case ipc::RequestKind::test_sinks:
    case ipc::RequestKind::change_alerts:
    case ipc::RequestKind::dead_letters:
    case ipc::RequestKind::change_rules:
      if (!peer.admin) {
        return reply(id, request->id,
                     fail(Errc::permission_denied, "this needs root or group " + options_.admin_group));
      }
      return answer_later(id, peer, *request);
    case ipc::RequestKind::sinks:
    case ipc::RequestKind::follow_alerts: return answer_later(id, peer, *request);
    default: return reply(id, request->id, answer(peer, *request));
  }
}

void Operators::answer_later(std::uint64_t id, Peer& peer, const ipc::Request& request) {
  if (peer.waiting >= max_waiting) {
    return reply(id, request.id, fail(Errc::limit_exceeded, "too many requests of this connection wait"));
  }
  ++peer.waiting;
  const auto& handler = request.kind == ipc::RequestKind::change_rules ? handlers_.rules : handlers_.alerting;
  handler(peer.credentials.uid, request,
          [this, &loop = loop_, here = std::weak_ptr(here_), id, number = request.id](Result<std::string> answered) {
            loop.post([this, here, id, number, answered = std::move(answered)]() mutable {
              if (!here.lock()) return;
              if (const auto found = peers_.find(id); found != peers_.end()) --found->second.waiting;
              reply(id, number, std::move(answered));
            });
          });
}

void Operators::reply(std::uint64_t id, std::uint64_t request_id, Result<std::string> answer) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return;
  ipc::Reply reply;
  reply.id = request_id;
  if (answer) {
    reply.payload = std::move(*answer);
  } else {
    reply.error = answer.error().code;
    reply.message = answer.error().message;
  }
  if (auto sent = found->second.connection->send(reply); !sent) drop(id);
}

Result<std::string> Operators::answer(const Peer& peer, const ipc::Request& request) {
  switch (request.kind) {
    case ipc::RequestKind::health: return handlers_.health_json();
    case ipc::RequestKind::metrics: return R"({"text":)" + base::json_quote(handlers_.metrics_text()) + "}";
    case ipc::RequestKind::reload:
      if (!peer.admin) return fail(Errc::permission_denied, "reload needs root or group " + options_.admin_group);
      return handlers_.reload(peer.credentials.uid);
    case ipc::RequestKind::rotate_audit_key:
      if (!peer.admin) return fail(Errc::permission_denied, "this needs root or group " + options_.admin_group);
      DE_CHECK(handlers_.rotate_audit_key(peer.credentials.uid));
      return "{}";
    case ipc::RequestKind::maintain:
      if (!peer.admin) return fail(Errc::permission_denied, "this needs root or group " + options_.admin_group);
      return handlers_.maintain(peer.credentials.uid, request.payload);
    case ipc::RequestKind::bundle:
      if (!peer.admin) handlers_.bundle_denied(peer.credentials.uid);
      if (!peer.admin) return fail(Errc::permission_denied, "this needs root or group " + options_.admin_group);
      DE_CHECK(handlers_.bundle(peer.credentials.uid, request.payload));
      return "{}";
    case ipc::RequestKind::configuration:
      if (!peer.admin) return fail(Errc::permission_denied, "this needs root or group " + options_.admin_group);
      DE_CHECK(handlers_.configuration(peer.credentials.uid, request.payload));
      return "{}";
    case ipc::RequestKind::maintenance: return handlers_.maintenance_json();
    case ipc::RequestKind::record_refusal: handlers_.on_refusal(peer.credentials.uid, request.payload); return "{}";
    default: return fail(Errc::invalid_input, "the agent does not answer this kind of request to operators");
  }
}

}  // namespace daemoneye::apps
