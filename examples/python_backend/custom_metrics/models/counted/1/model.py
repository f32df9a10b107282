"""Counts words, and tells the metrics page about it."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        counter = pb_utils.MetricFamily(
            name="example_words_total", description="Words read", kind=pb_utils.MetricFamily.COUNTER
        )
        gauge = pb_utils.MetricFamily(
            name="example_last_text_words", description="Words of the last text", kind=pb_utils.MetricFamily.GAUGE
        )
        self.families = counter, gauge  # a family has to live as long as its metrics
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self.words = counter.Metric(labels=labels)
        self.last = gauge.Metric(labels=labels)

    def execute(self, requests):
        responses = []
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[0]
            count = len(text.split())
            self.words.increment(count)
            self.last.set(count)
            if self.last.value() != count:
                raise pb_utils.TritonModelException(f"the gauge is {self.last.value()}")
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("WORDS", np.array([count], dtype=np.int32))]))
        return responses
