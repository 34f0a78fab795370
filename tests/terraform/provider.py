"""A replacement for Terraform's google provider, which checks `infra/` without a registry.

It has the schemas of the resources that `infra/` uses (`schema.json`, updated by
`make provider-schema`) and rules on their values, which schemas do not contain (`rules.py`). That
is enough for `terraform validate`, and for `terraform test` with a mocked provider. It also plans
and applies, but only in the state: what Google would compute gets a value of the right type.

Terraform connects to it as to a provider in a debugger: TF_REATTACH_PROVIDERS names a socket that
serves gRPC without TLS (https://developer.hashicorp.com/terraform/plugin/debugging). The messages
are the required part of tfplugin6.proto.
"""

import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import msgpack
import proto

from terraform.rules import find_problems

SOURCE = "hashicorp/google"
SCHEMA = Path(__file__).with_name("schema.json")

Json = dict[str, Any]

_NESTING = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}
_ERROR = 1

__protobuf__ = proto.module(package="tfplugin6")


class Attribute(proto.Message):
    name = proto.Field(proto.STRING, number=1)
    type_ = proto.Field(proto.BYTES, number=2)
    required = proto.Field(proto.BOOL, number=4)
    optional = proto.Field(proto.BOOL, number=5)
    computed = proto.Field(proto.BOOL, number=6)


class NestedBlock(proto.Message):
    type_name = proto.Field(proto.STRING, number=1)
    block = proto.Field("Block", number=2)
    nesting = proto.Field(proto.INT32, number=3)
    min_items = proto.Field(proto.INT64, number=4)
    max_items = proto.Field(proto.INT64, number=5)


class Block(proto.Message):
    attributes = proto.RepeatedField(Attribute, number=2)
    block_types = proto.RepeatedField(NestedBlock, number=3)


class Schema(proto.Message):
    version = proto.Field(proto.INT64, number=1)
    block = proto.Field(Block, number=2)


class Schemas(proto.Message):
    provider = proto.Field(Schema, number=1)
    resource_schemas = proto.MapField(proto.STRING, Schema, number=2)
    data_source_schemas = proto.MapField(proto.STRING, Schema, number=3)


class DynamicValue(proto.Message):
    msgpack = proto.Field(proto.BYTES, number=1)
    json = proto.Field(proto.BYTES, number=2)


class Step(proto.Message):
    attribute_name = proto.Field(proto.STRING, number=1)


class AttributePath(proto.Message):
    steps = proto.RepeatedField(Step, number=1)


class Diagnostic(proto.Message):
    severity = proto.Field(proto.INT32, number=1)
    summary = proto.Field(proto.STRING, number=2)
    detail = proto.Field(proto.STRING, number=3)
    attribute = proto.Field(AttributePath, number=4)


class Resource(proto.Message):
    type_name = proto.Field(proto.STRING, number=1)
    config = proto.Field(DynamicValue, number=2)


class Findings(proto.Message):
    diagnostics = proto.RepeatedField(Diagnostic, number=1)


class StoredState(proto.Message):
    type_name = proto.Field(proto.STRING, number=1)
    raw_state = proto.Field(DynamicValue, number=3)  # whose JSON has the number 1


class Change(proto.Message):
    """A request to read, plan or apply; each has its own numbers for the same kinds of values."""

    type_name = proto.Field(proto.STRING, number=1)
    second = proto.Field(DynamicValue, number=2)
    third = proto.Field(DynamicValue, number=3)


class State(proto.Message):
    state = proto.Field(DynamicValue, number=1)


class Empty(proto.Message):
    pass


class GoogleProvider:
    """The provider, as a context manager. `environment` has the variables that Terraform needs."""

    def __init__(self) -> None:
        # Short, because the path of a socket is limited to about a hundred characters.
        self._folder = tempfile.TemporaryDirectory(prefix="tf")
        self._socket = f"{self._folder.name}/s"
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        stored = json.loads(SCHEMA.read_bytes())
        schemas = _schemas(stored)
        self._blocks = {
            name: schema["block"]
            for kind in ("resource_schemas", "data_source_schemas")
            for name, schema in stored[kind].items()
        }
        rpcs: dict[str, tuple[Any, Any, Callable[[Any], Any]]] = {
            "GetProviderSchema": (Empty, Schemas, lambda _: schemas),
            "ValidateProviderConfig": (Empty, Empty, lambda _: Empty()),
            "ValidateResourceConfig": (Resource, Findings, _validate),
            "ValidateDataResourceConfig": (Resource, Findings, lambda _: Findings()),
            "ConfigureProvider": (Empty, Empty, lambda _: Empty()),
            "UpgradeResourceState": (StoredState, State, _upgrade),
            "ReadResource": (Change, State, lambda request: State(state=request.second)),
            "ReadDataSource": (Change, State, self._read_data_source),
            "PlanResourceChange": (Change, State, self._plan),
            "ApplyResourceChange": (Change, State, self._apply),
            "StopProvider": (Empty, Empty, lambda _: Empty()),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                lambda request, _, answer=answer: answer(request),
                request_deserializer=request_type.deserialize,
                response_serializer=response_type.serialize,
            )
            for name, (request_type, response_type, answer) in rpcs.items()
        }
        handler = grpc.method_handlers_generic_handler("tfplugin6.Provider", handlers)
        self._server.add_generic_rpc_handlers((handler,))

    @property
    def environment(self) -> dict[str, str]:
        plugin = {
            "Protocol": "grpc",
            "ProtocolVersion": 6,
            "Pid": os.getpid(),
            "Test": True,
            "Addr": {"Network": "unix", "String": self._socket},
        }
        return {"TF_REATTACH_PROVIDERS": json.dumps({SOURCE: plugin})}

    def _plan(self, request: Change) -> State:
        """The proposed state (third), with what a new resource's provider computes as unknown."""
        proposed = _decode(request.third)
        if proposed is not None and _decode(request.second) is None:
            proposed = _with_computed(
                proposed, self._blocks[request.type_name], lambda *_: _UNKNOWN
            )
        return _state(proposed)

    def _apply(self, request: Change) -> State:
        """The planned state (third), with values for what is unknown."""
        planned = _decode(request.third)
        return _state(_known(planned, self._blocks[request.type_name]))

    def _read_data_source(self, request: Change) -> State:
        """The configuration (second), with values for what is computed."""
        config = _decode(request.second)
        return _state(_with_computed(config, self._blocks[request.type_name], _value_of))

    def __enter__(self) -> Self:
        self._server.add_insecure_port(f"unix:{self._socket}")
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(grace=0).wait()
        self._folder.cleanup()


def _schemas(schema: Json) -> Schemas:
    return Schemas(
        provider=_schema(schema["provider"]),
        resource_schemas={k: _schema(v) for k, v in schema["resource_schemas"].items()},
        data_source_schemas={k: _schema(v) for k, v in schema["data_source_schemas"].items()},
    )


def _schema(schema: Json) -> Schema:
    return Schema(version=schema.get("version", 0), block=_block(schema["block"]))


def _block(block: Json) -> Block:
    return Block(
        attributes=[
            Attribute(
                name=name,
                type_=json.dumps(attribute["type"]).encode(),
                required=attribute.get("required", False),
                optional=attribute.get("optional", False),
                computed=attribute.get("computed", False),
            )
            for name, attribute in block.get("attributes", {}).items()
        ],
        block_types=[
            NestedBlock(
                type_name=name,
                block=_block(nested["block"]),
                nesting=_NESTING[nested["nesting_mode"]],
                min_items=nested.get("min_items", 0),
                max_items=nested.get("max_items", 0),
            )
            for name, nested in block.get("block_types", {}).items()
        ],
    )


def _validate(resource: Resource) -> Findings:
    # Terraform encodes unknown values as an extension type of MessagePack.
    config = msgpack.unpackb(
        resource.config.msgpack, ext_hook=lambda _code, _data: None, strict_map_key=False
    )
    return Findings(
        diagnostics=[
            Diagnostic(
                severity=_ERROR,
                summary=f"{resource.type_name}.{path}: {problem}",
                attribute=AttributePath(steps=[Step(attribute_name=path.split(".")[0])]),
            )
            for path, problem in find_problems(resource.type_name, config)
        ]
    )


_UNKNOWN = msgpack.ExtType(0, b"\0")
_ACCOUNT = "an-account@warehouse-1.iam.gserviceaccount.com"
_COMPUTED = {
    "email": _ACCOUNT,
    "email_address": _ACCOUNT,
    "member": f"serviceAccount:{_ACCOUNT}",
    "number": "123456789012",
    "project": "warehouse-1",
    "uri": "https://a-function.a.run.app",
    "writer_identity": f"serviceAccount:{_ACCOUNT}",
}
_EMPTY: dict[str, Any] = {"number": 0, "bool": False, "list": [], "set": [], "map": {}}


def _decode(value: DynamicValue) -> Any:
    return msgpack.unpackb(value.msgpack, ext_hook=msgpack.ExtType, strict_map_key=False)


def _state(value: Any) -> State:
    return State(state=DynamicValue(msgpack=msgpack.packb(value)))


def _upgrade(request: StoredState) -> State:
    """The stored JSON as it is: no schema has changed."""
    return State(state=DynamicValue(json=request.raw_state.msgpack))


def _value_of(name: str, kind: Any) -> Any:
    """A value of an attribute's type, which is a word or a list that begins with one."""
    word = kind if isinstance(kind, str) else kind[0]
    return _EMPTY.get(word, _COMPUTED.get(name, f"the-{name}"))


def _with_computed(value: Json, block: Json, compute: Callable[[str, Any], Any]) -> Json:
    """The value of a block, in which computed attributes that are not set get one."""
    done = dict(value)
    for name, attribute in block.get("attributes", {}).items():
        if attribute.get("computed") and done.get(name) is None:
            done[name] = compute(name, attribute["type"])
    return _in_blocks(done, block, lambda each, inner: _with_computed(each, inner, compute))


def _known(value: Any, block: Json) -> Any:
    """The value of a block with known values in place of unknown ones."""
    if value is None:
        return None
    done = {
        name: _value_of(name, block["attributes"][name]["type"]) if each == _UNKNOWN else each
        for name, each in value.items()
    }
    return _in_blocks(done, block, _known)


def _in_blocks(value: Json, block: Json, change: Callable[[Json, Json], Json]) -> Json:
    """The value of a block, with a change in each of the blocks in it."""
    for name, nested in block.get("block_types", {}).items():
        inner = value.get(name)
        if isinstance(inner, list):
            value[name] = [change(each, nested["block"]) for each in inner]
        elif isinstance(inner, dict):
            value[name] = change(inner, nested["block"])
    return value
