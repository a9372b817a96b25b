#include "sensor/hash_protocol.h"

#include <algorithm>

#include "base/bytes.h"

namespace daemoneye::sensor {
namespace {

enum class Type : std::uint8_t { request = 1, hello = 2, reply = 3 };

constexpr std::uint8_t has_state = 1, has_digest = 2, has_path = 4, is_hopeless = 8;

void put_text(base::ByteWriter& out, std::string_view text, std::size_t bound) {
  text = text.substr(0, bound);
  out.u16(static_cast<std::uint16_t>(text.size()));
  out.raw(text);
}

std::string_view get_text(base::ByteReader& in, std::size_t bound) {
  const std::size_t size = in.u16();
  if (size > bound) in.set_failed();
  return in.raw(in.ok() ? size : 0);
}

void put_identity(base::ByteWriter& out, const FileIdentity& file) {
  out.u64(file.device);
  out.u64(file.inode);
  out.u64(file.size);
  out.u64(static_cast<std::uint64_t>(file.mtime_ns));
  out.u64(static_cast<std::uint64_t>(file.ctime_ns));
}

FileIdentity get_identity(base::ByteReader& in) {
  FileIdentity file;
  file.device = in.u64();
  file.inode = in.u64();
  file.size = in.u64();
  file.mtime_ns = static_cast<std::int64_t>(in.u64());
  file.ctime_ns = static_cast<std::int64_t>(in.u64());
  return file;
}

std::string begin(Type type) { return {static_cast<char>(hash_protocol_version), static_cast<char>(type)}; }

Result<Type> open(base::ByteReader& in, std::string_view message) {
  if (message.size() > max_hash_message_bytes) return fail(Errc::corrupt, "hashing message longer than its bound");
  if (in.u8() != hash_protocol_version) return fail(Errc::corrupt, "hashing message of another version");
  return static_cast<Type>(in.u8());
}

// NUL ends a path for the kernel: a path with one inside would be another path than the one that was checked.
bool is_path(std::string_view path) { return path.find('\0') == std::string_view::npos; }

HashHello get_hello(base::ByteReader& in) {
  HashHello hello;
  hello.pid = in.u32();
  hello.previous = in.u64();
  hello.error = get_text(in, max_hash_error_bytes);
  const std::size_t count = in.u8();
  if (count > max_hash_details) in.set_failed();
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    std::string key(get_text(in, max_hash_detail_bytes));
    // Ascending keys: one message has one meaning.
    if (!hello.details.empty() && hello.details.rbegin()->first >= key) in.set_failed();
    hello.details.insert_or_assign(std::move(key), std::string(get_text(in, max_hash_detail_bytes)));
  }
  return hello;
}

HashReply get_reply(base::ByteReader& in) {
  HashReply reply;
  reply.id = in.u64();
  const auto flags = in.u8();
  const auto state = in.u8();
  const auto digest = in.raw(std::tuple_size_v<base::Sha256Digest>);
  reply.file = get_identity(in);
  const auto path = get_text(in, max_hash_path_bytes);
  reply.error = get_text(in, max_hash_error_bytes);
  if ((flags & ~(has_state | has_digest | has_path | is_hopeless)) != 0) in.set_failed();
  if ((flags & has_state) != 0) {
    if (state < 1 || state > static_cast<std::uint8_t>(event::ExecutableState::kernel)) in.set_failed();
    reply.state = static_cast<event::ExecutableState>(state);
  } else if (state != 0) {
    in.set_failed();
  }
  if ((flags & has_digest) != 0) {
    if (in.ok()) std::ranges::copy(digest, reply.digest.emplace().begin());
  } else if (std::ranges::any_of(digest, [](char byte) { return byte != 0; })) {
    in.set_failed();
  }
  reply.hopeless = (flags & is_hopeless) != 0;
  if ((flags & has_path) != 0)
    reply.path = path;
  else if (!path.empty())
    in.set_failed();
  if (!is_path(path)) in.set_failed();
  return reply;
}

}  // namespace

std::string encode_hash_request(const HashRequest& request) {
  auto out = begin(Type::request);
  base::ByteWriter writer(out);
  writer.u64(request.id);
  writer.u32(request.pid);
  writer.u64(request.start_ticks);
  put_identity(writer, request.file);
  put_text(writer, request.path.size() > max_hash_path_bytes ? std::string_view() : request.path, max_hash_path_bytes);
  return out;
}

Result<HashRequest> decode_hash_request(std::string_view message) {
  base::ByteReader in(message);
  DE_TRY(const auto type, open(in, message));
  if (type != Type::request) return fail(Errc::corrupt, "not a hashing request");
  HashRequest request;
  request.id = in.u64();
  request.pid = in.u32();
  request.start_ticks = in.u64();
  request.file = get_identity(in);
  request.path = get_text(in, max_hash_path_bytes);
  if (!is_path(request.path)) in.set_failed();
  if (!in.at_end()) return fail(Errc::corrupt, "malformed hashing request");
  return request;
}

std::string encode_hash_hello(const HashHello& hello) {
  auto out = begin(Type::hello);
  base::ByteWriter writer(out);
  writer.u32(hello.pid);
  writer.u64(hello.previous);
  put_text(writer, hello.error, max_hash_error_bytes);
  std::size_t count = 0, bytes = 0;
  std::string details;
  base::ByteWriter details_writer(details);
  for (const auto& [key, value] : hello.details) {
    // Half of the message is room enough; what does not fit is left out rather than the whole hello refused.
    if (key.size() > max_hash_detail_bytes) continue;
    bytes += key.size() + std::min(value.size(), max_hash_detail_bytes);
    if (++count > max_hash_details || bytes > max_hash_message_bytes / 2) {
      --count;
      break;
    }
    put_text(details_writer, key, max_hash_detail_bytes);
    put_text(details_writer, value, max_hash_detail_bytes);
  }
  writer.u8(static_cast<std::uint8_t>(count));
  writer.raw(details);
  return out;
}

std::string encode_hash_reply(const HashReply& reply) {
  auto out = begin(Type::reply);
  base::ByteWriter writer(out);
  const bool path_fits = reply.path && reply.path->size() <= max_hash_path_bytes;
  writer.u64(reply.id);
  writer.u8(static_cast<std::uint8_t>((reply.state ? has_state : 0) | (reply.digest ? has_digest : 0) |
                                      (path_fits ? has_path : 0) | (reply.hopeless ? is_hopeless : 0)));
  writer.u8(reply.state ? static_cast<std::uint8_t>(*reply.state) : 0);
  writer.raw(base::as_bytes(reply.digest.value_or(base::Sha256Digest{})));
  put_identity(writer, reply.file);
  put_text(writer, path_fits ? std::string_view(*reply.path) : std::string_view(), max_hash_path_bytes);
  put_text(writer, reply.error, max_hash_error_bytes);
  return out;
}

Result<HashMessage> decode_hash_message(std::string_view message) {
  base::ByteReader in(message);
  DE_TRY(const auto type, open(in, message));
  HashMessage decoded;
  switch (type) {
    case Type::hello: decoded.hello = get_hello(in); break;
    case Type::reply: decoded.reply = get_reply(in); break;
    default: return fail(Errc::corrupt, "hashing message of an unknown kind");
  }
  if (!in.at_end()) return fail(Errc::corrupt, "malformed hashing message");
  return decoded;
}

}  // namespace daemoneye::sensor
