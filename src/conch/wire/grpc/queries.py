"""RPCs that only read: health, metadata, configuration, statistics."""

from __future__ import annotations

from typing import Any

from conch.core.api import DurationStat, ModelStatistics, ServerApi, TensorMetadata
from conch.wire.grpc.dispatch import UnaryMethod
from conch.wire.grpc.methods import INFERENCE_SERVICE, unary
from conch.wire.grpc.protos import pb


class Queries:
    """Answers from the server's own values."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server

    def methods(self) -> list[UnaryMethod]:
        """What is served, by path."""
        answers = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        return [
            unary(f"/{INFERENCE_SERVICE}/{name}", getattr(pb, f"{name}Request"), answer)
            for name, answer in answers.items()
        ]

    def _server_live(self, request: Any) -> Any:
        return pb.ServerLiveResponse(live=self._server.is_live())

    def _server_ready(self, request: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._server.is_ready())

    async def _model_ready(self, request: Any) -> Any:
        return pb.ModelReadyResponse(ready=await self._server.check_model_ready(request.name, request.version))

    def _server_metadata(self, request: Any) -> Any:
        metadata = self._server.metadata()
        return pb.ServerMetadataResponse(
            name=metadata.name, version=metadata.version, extensions=list(metadata.extensions)
        )

    def _model_metadata(self, request: Any) -> Any:
        metadata = self._server.model_metadata(request.name, request.version)
        return pb.ModelMetadataResponse(
            name=metadata.name,
            versions=metadata.versions,
            platform=metadata.platform,
            inputs=[_tensor(tensor) for tensor in metadata.inputs],
            outputs=[_tensor(tensor) for tensor in metadata.outputs],
        )

    def _model_config(self, request: Any) -> Any:
        return pb.ModelConfigResponse(config=self._server.model(request.name, request.version).config.message)

    def _model_statistics(self, request: Any) -> Any:
        statistics = self._server.statistics(request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=[_statistics(one) for one in statistics])


def _tensor(tensor: TensorMetadata) -> Any:
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)


def _statistics(one: ModelStatistics) -> Any:
    return pb.ModelStatistics(
        name=one.name,
        version=one.version,
        last_inference=one.last_inference,
        inference_count=one.inference_count,
        execution_count=one.execution_count,
        inference_stats=pb.InferStatistics(**{name: _duration(stat) for name, stat in one.inference_stats.items()}),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=batch.batch_size,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for batch in one.batch_stats
        ],
        response_stats={
            number: pb.InferResponseStatistics(
                **{name: _duration(getattr(stat, name)) for name in stat.__struct_fields__}
            )
            for number, stat in one.response_stats.items()
        },
    )


def _duration(stat: DurationStat) -> Any:
    return pb.StatisticDuration(count=stat.count, ns=stat.ns)
