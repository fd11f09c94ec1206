package mesh;

import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.Inference.InferParameter;
import inference.Inference.ModelInferRequest;
import inference.Inference.ModelInferResponse;
import inference.Inference.ModelStreamInferResponse;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * A client in Java of the open inference protocol: {@code Client ADDRESS MODEL}.
 *
 * <p>Makes the calls that the story asks for over one connection, and prints what came as one JSON object.
 */
public final class Client {
  private static final int FEW = 200;
  private static final int MANY = 64;
  private static final int LARGE = 3 << 20; // Bytes; clients of Java take 4 MiB at most.
  private static final int PATIENCE = 60; // Seconds.
  private static final Metadata.Key<String> MODEL = Metadata.Key.of("mm-model-id", Metadata.ASCII_STRING_MARSHALLER);

  private final ManagedChannel channel;
  private final String model;

  private Client(ManagedChannel channel, String model) {
    this.channel = channel;
    this.model = model;
  }

  private static ModelInferRequest request(String model, byte[] raw, String order) {
    ModelInferRequest.Builder made = ModelInferRequest.newBuilder().setModelName(model).setId("7");
    made.addInputsBuilder().setName("x").setDatatype("UINT8").addShape(raw.length);
    if (!order.isEmpty()) {
      made.putParameters("test", InferParameter.newBuilder().setStringParam(order).build());
    }
    return made.addRawInputContents(ByteString.copyFrom(raw)).build();
  }

  private static String told(byte[] raw, ModelInferResponse answer) {
    boolean same = answer.getId().equals("7") && answer.getRawOutputContentsCount() == 1;
    return same && answer.getRawOutputContents(0).equals(ByteString.copyFrom(raw)) ? "OK" : "another answer";
  }

  private String unary(String name, byte[] raw, String order, long milliseconds) {
    try {
      var stub = GRPCInferenceServiceGrpc.newBlockingStub(channel).withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS);
      return told(raw, stub.modelInfer(request(name, raw, order)));
    } catch (StatusRuntimeException error) {
      return error.getStatus().getCode().toString();
    }
  }

  private String unary(String name, byte[] raw) {
    return unary(name, raw, "", PATIENCE * 1000L);
  }

  private String oneAfterTheOther() {
    Map<String, Integer> counts = new TreeMap<>();
    for (int number = 0; number < FEW; number++) {
      counts.merge(unary(model, new byte[] {(byte) number}), 1, Integer::sum);
    }
    return json(counts);
  }

  private String atOnce() throws InterruptedException {
    Map<String, Integer> counts = new ConcurrentSkipListMap<>();
    ExecutorService threads = Executors.newFixedThreadPool(MANY);
    for (int number = 0; number < MANY; number++) {
      byte[] raw = new byte[1000];
      raw[0] = (byte) number;
      threads.execute(() -> counts.merge(unary(model, raw), 1, Integer::sum));
    }
    threads.shutdown();
    threads.awaitTermination(2L * PATIENCE, TimeUnit.SECONDS);
    return json(counts);
  }

  private String stream() throws InterruptedException {
    Map<String, Integer> counts = new ConcurrentSkipListMap<>();
    CountDownLatch over = new CountDownLatch(1);
    Metadata headers = new Metadata();
    headers.put(MODEL, model);
    byte[] raw = {1, 2, 3};
    var stub = GRPCInferenceServiceGrpc.newStub(channel).withDeadlineAfter(PATIENCE, TimeUnit.SECONDS)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
    StreamObserver<ModelInferRequest> asking = stub.modelStreamInfer(new StreamObserver<>() {
      @Override
      public void onNext(ModelStreamInferResponse answer) {
        counts.merge(told(raw, answer.getInferResponse()), 1, Integer::sum);
      }

      @Override
      public void onError(Throwable error) {
        counts.merge(Status.fromThrowable(error).getCode().toString(), 1, Integer::sum);
        over.countDown();
      }

      @Override
      public void onCompleted() {
        over.countDown();
      }
    });
    for (int number = 0; number < FEW; number++) {
      asking.onNext(request(model, raw, ""));
    }
    asking.onCompleted();
    over.await(PATIENCE, TimeUnit.SECONDS);
    return json(counts);
  }

  private static String json(Map<String, Integer> counts) {
    return counts.entrySet().stream().map(one -> quoted(one.getKey()) + ": " + one.getValue()).collect(Collectors.joining(", ", "{", "}"));
  }

  private static String quoted(String text) {
    return '"' + text + '"';
  }

  private void all() throws InterruptedException {
    System.out.println(String.join(", ",
        "{\"one after the other\": " + oneAfterTheOther(),
        "\"at once\": " + atOnce(),
        "\"large\": " + quoted(unary(model, new byte[LARGE])),
        "\"stream\": " + stream(),
        "\"unknown\": " + quoted(unary("nobody", new byte[1])),
        "\"too late\": " + quoted(unary(model, new byte[1], "test:sleep:60000", 300)),
        "\"afterwards\": " + quoted(unary(model, new byte[1])) + "}"));
  }

  /** The address is HOST:PORT, in plaintext. */
  public static void main(String[] arguments) throws InterruptedException {
    ManagedChannel channel = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    try {
      new Client(channel, arguments[1]).all();
    } finally {
      channel.shutdownNow();
    }
  }
}
