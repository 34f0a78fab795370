"""The three messages of Pub/Sub's API that publishing needs, as protocol buffers.

Their names, numbers and types are those of google/pubsub/v1/pubsub.proto, which never change. They
are declared here because google-cloud-pubsub, which has them too, cannot be imported without all of
its clients: 0.1 s of every cold start.
"""

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_file = FileDescriptorProto(
    name="google/pubsub/v1/publish.proto", package="google.pubsub.v1", syntax="proto3"
)

_message = _file.message_type.add(name="PubsubMessage")
_entry = _message.nested_type.add(name="AttributesEntry")
_entry.options.map_entry = True
_entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
_entry.field.add(name="value", number=2, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
_message.field.add(name="data", number=1, type=Field.TYPE_BYTES, label=Field.LABEL_OPTIONAL)
_message.field.add(
    name="attributes",
    number=2,
    type=Field.TYPE_MESSAGE,
    label=Field.LABEL_REPEATED,
    type_name=".google.pubsub.v1.PubsubMessage.AttributesEntry",
)

_request = _file.message_type.add(name="PublishRequest")
_request.field.add(name="topic", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
_request.field.add(
    name="messages",
    number=2,
    type=Field.TYPE_MESSAGE,
    label=Field.LABEL_REPEATED,
    type_name=".google.pubsub.v1.PubsubMessage",
)

_response = _file.message_type.add(name="PublishResponse")
_response.field.add(
    name="message_ids", number=1, type=Field.TYPE_STRING, label=Field.LABEL_REPEATED
)

# A pool of its own: in the common one Google's declaration of the same names may be found already.
_pool = DescriptorPool()
_pool.Add(_file)

PubsubMessage = GetMessageClass(_pool.FindMessageTypeByName("google.pubsub.v1.PubsubMessage"))
PublishRequest = GetMessageClass(_pool.FindMessageTypeByName("google.pubsub.v1.PublishRequest"))
PublishResponse = GetMessageClass(_pool.FindMessageTypeByName("google.pubsub.v1.PublishResponse"))
