"""KServe's ModelServer around one onnxruntime session: MODEL FILE PORT."""

import logging
import sys

import numpy
import onnxruntime
from kserve import InferOutput, InferResponse, Model, ModelServer

name, path, port = sys.argv[1:]


class Onnx(Model):
    def __init__(self):
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        inputs = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        results = self.session.run(self.outputs, inputs)
        outputs = []
        for output_name, result in zip(self.outputs, results):
            output = InferOutput(name=output_name, shape=list(result.shape), datatype="FP32")
            output.set_data_from_numpy(numpy.asarray(result), binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(response_id=payload.id or name, model_name=name, infer_outputs=outputs)


logging.disable(logging.INFO)
ModelServer(http_port=int(port), enable_grpc=False, workers=1, access_log_format=None).start([Onnx()])
