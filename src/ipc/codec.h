// Messages to and from protobuf bytes (proto/daemoneye.proto). Any thread.
#pragma once

#include <string>
#include <string_view>

#include "ipc/messages.h"

namespace daemoneye::ipc {

// The bounds of every field; invalid_input names the field, its size and its bound. The peer would end the
// connection over such a message, so it must not be sent.
Result<void> check_message(const Message& message);

// The message as it is, within its bounds or not; an error's message is cut at its bound.
std::string encode_message(const Message& message);
void append_message(std::string& out, const Message& message);  // the same, behind what is there
// corrupt: not our protobuf, an unknown message, or a field out of its bounds (names the field). Fields of known
// messages that this version does not know are skipped and not kept.
Result<Message> decode_message(std::string_view bytes);

}  // namespace daemoneye::ipc
