// Messages to and from protobuf bytes (proto/daemoneye.proto).
#pragma once

#include <string>
#include <string_view>

#include "ipc/messages.h"

namespace daemoneye::ipc {

std::string encode_message(const Message& message);
// corrupt: not our protobuf, an unknown message, or a field out of its bounds (names the field).
Result<Message> decode_message(std::string_view bytes);

}  // namespace daemoneye::ipc
