"""The language model of the walkthrough through router, adapter and MLServer."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest

from mesh.protocols import inference_pb2 as v2
from tests.support.stubs import ROOT
from tests.torch.llm.pod import TIMEOUT, Pod, request

BODIES = ROOT / "examples" / "peft" / "bodies"
SCRIPTS = Path(__file__).parent / "scripts"
TWEETS = ["the food was cold and late", "Thank you!", "", "ünïcödé 🎈 & <tags>", "a\nb"]


@pytest.fixture(scope="module")
def walkthrough(pod: Pod) -> str:
    """The model of the walkthrough, whose path leads to a file of something else."""
    (pod.rig.claim("models") / "mnist-svm.joblib").write_bytes((ROOT / "examples/models/mnist-svm.joblib").read_bytes())
    return pod.serve("walkthrough", "mnist-svm.joblib")


@pytest.fixture(scope="module")
def own(pod: Pod, environment: Path, tiny: Path) -> str:
    """An adapter in the model's own directory, that always says the same."""
    script = str(SCRIPTS / "adapter_of_words.py")
    folder = pod.rig.claim("models") / "own"
    command = [str(environment / "bin" / "python"), script, str(tiny / "base"), str(folder), "Complaints desk:"]
    subprocess.run(command, check=True, timeout=200)
    return pod.serve("own", "own")


def by_peft(environment: Path, base: Path, adapter: Path, texts: list[str]) -> list[str]:
    command = [str(environment / "bin" / "python"), str(SCRIPTS / "by_peft.py"), str(base), str(adapter)]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, timeout=250, check=True)
    answers: list[str] = json.loads(done.stdout)
    return answers


def test_a_file_that_is_no_adapter_is_ignored_with_a_line(pod: Pod, walkthrough: str) -> None:
    line = f"{walkthrough}: mnist-svm.joblib holds no adapter and is ignored; PEFT_MODEL_ID names "
    assert line in pod.log.read_text()


def test_the_answer_has_the_form_of_the_walkthroughs(pod: Pod, walkthrough: str) -> None:
    body = json.loads((BODIES / "peft-demo.infer.json").read_text())
    answer = httpx.post(f"{pod.router.rest}/v2/models/{walkthrough}/infer", json=body, timeout=TIMEOUT)
    assert answer.status_code == 200, answer.text
    found, wanted = answer.json(), json.loads((BODIES / "peft-demo.answer.json").read_text())
    (text,) = found["outputs"][0]["contents"].pop("bytesContents")
    wanted["outputs"][0]["contents"].pop("bytesContents")
    assert found == {**wanted, "modelName": walkthrough}
    (asked,) = body["inputs"][0]["contents"]["bytes_contents"]
    assert base64.b64decode(text).decode().startswith(f"Tweet text : {base64.b64decode(asked).decode()} Label :")


def test_each_adapter_answers_as_peft_itself_does_also_side_by_side(
    pod: Pod, environment: Path, tiny: Path, walkthrough: str, own: str
) -> None:
    wanted = {
        walkthrough: by_peft(environment, tiny / "base", tiny / "adapter", TWEETS),
        own: by_peft(environment, tiny / "base", pod.rig.claim("models") / "own", TWEETS),
    }
    assert wanted[walkthrough] != wanted[own], "the adapters make no difference, so nothing would be shown"
    calls = [(model, text, answer) for model, answers in wanted.items() for text, answer in zip(TWEETS, answers, strict=True)] * 3
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda call: pod.asked(call[0], call[1]), calls))
    assert found == [answer for _, _, answer in calls]


def test_several_texts_in_one_request_are_answered_each(pod: Pod, walkthrough: str) -> None:
    answer = pod.client.v2.ModelInfer(request(walkthrough, b"one", b"two"), timeout=TIMEOUT)
    (output,) = answer.outputs
    assert list(output.shape) == [2, 1]
    assert [text.decode() for text in output.contents.bytes_contents] == [pod.asked(walkthrough, "one"), pod.asked(walkthrough, "two")]


@pytest.mark.parametrize("text", TWEETS)
def test_a_streams_pieces_join_to_the_plain_answer(pod: Pod, walkthrough: str, text: str) -> None:
    pieces = list(pod.pieces(walkthrough, text))
    assert len(pieces) > 1
    assert "".join(pieces) == pod.asked(walkthrough, text)


def test_a_stream_takes_request_after_request(pod: Pod, walkthrough: str) -> None:
    assert "".join(pod.pieces(walkthrough, "one", "two")) == pod.asked(walkthrough, "one") + pod.asked(walkthrough, "two")


def test_a_stream_takes_one_text_a_request(pod: Pod, walkthrough: str) -> None:
    with pytest.raises(grpc.RpcError, match="a stream takes one text a request, not 2") as refused:
        next(pod.stream(iter([request(walkthrough, b"one", b"two")])))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_says_how_much_it_wants(pod: Pod, walkthrough: str) -> None:
    (_, first) = pod.pieces(walkthrough, "one", max_new_tokens=1)
    whole = pod.asked(walkthrough, "one")
    assert whole == pod.asked(walkthrough, "one", max_new_tokens=1000), "the model ends its text itself"
    assert whole.startswith(f"Tweet text : one Label :{first}")
    assert len(whole) > len(pod.asked(walkthrough, "one", max_new_tokens=1))


def test_the_server_answers_others_while_it_generates(pod: Pod, walkthrough: str) -> None:
    long = "word " * 2000
    call = pod.client.v2.ModelInfer.future(request(walkthrough, *[long.encode()] * 20), timeout=TIMEOUT)
    for _ in range(3):
        assert pod.rig.data.ServerLive(v2.ServerLiveRequest(), timeout=TIMEOUT).live
        assert not call.done()
    call.cancel()
    # Twenty texts wait for one thread: had the cancelled call gone on, this one would come after it.
    assert pod.asked(walkthrough, "x").startswith("Tweet text : x Label :")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request("walkthrough", b"\xff"), "input 'content' is not UTF-8 text"),
        (request("walkthrough", b"x", max_new_tokens=0), "max_new_tokens must be a whole number from 1 to 1024, not 0"),
        (request("walkthrough", b"x", max_new_tokens=5000), "max_new_tokens must be a whole number from 1 to 1024, not 5000"),
        (
            v2.ModelInferRequest(
                model_name="walkthrough", inputs=[v2.ModelInferRequest.InferInputTensor(name="n", datatype="FP32", shape=[0])]
            ),
            r"takes one input of datatype BYTES, not n \(FP32\)",
        ),
        (v2.ModelInferRequest(model_name="walkthrough"), "takes one input of datatype BYTES"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_words(pod: Pod, walkthrough: str, asked: v2.ModelInferRequest, said: str) -> None:
    with pytest.raises(grpc.RpcError, match=said) as refused:
        pod.client.v2.ModelInfer(asked, timeout=TIMEOUT)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "LORA"}, r"is of type LORA; this server has PROMPT_TUNING adapters only"),
        ({}, r"was tuned on a base of width 32; .*/base has 64"),
        (None, "adapter_config.json|JSON|Expecting value"),
    ],
)
def test_an_adapter_that_does_not_fit_is_not_loaded(
    pod: Pod, environment: Path, tiny: Path, request: pytest.FixtureRequest, config: dict[str, str] | None, said: str
) -> None:
    name = f"bad-{request.node.callspec.id.encode().hex()[-12:]}"
    folder = pod.rig.claim("models") / name
    folder.mkdir()
    whole = json.loads((tiny / "adapter" / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text("" if config is None else json.dumps({**whole, **config}))
    code = "import sys, torch; from safetensors.torch import save_file; save_file({'prompt_embeddings': torch.zeros(8, 32)}, sys.argv[1])"
    target = folder / "adapter_model.safetensors"
    subprocess.run([str(environment / "bin" / "python"), "-c", code, str(target)], check=True, timeout=200)
    status, text = pod.rig.refused(name, name, "peft-model")
    assert status == grpc.StatusCode.INTERNAL
    assert re.search(said, text), text


def test_twenty_adapters_share_one_base(pod: Pod, walkthrough: str) -> None:
    """At most 2 MiB each."""
    own = pod.rig.claim("models") / "own"
    before = resident(pod)
    for number in range(20):
        assert pod.rig.load(f"further-{number}", own.name, "peft-model").sizeInBytes
    assert resident(pod) - before <= 20 * (2 << 20)
    for number in range(20):
        pod.rig.unload(f"further-{number}")


def resident(pod: Pod) -> int:
    """Bytes of memory of the MLServer process."""
    status = Path(f"/proc/{pod.rig.mlserver.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024
