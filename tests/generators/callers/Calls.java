import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.ConvApi;
import org.openapitools.client.api.PoolApi;
import org.openapitools.client.model.*;

/** Calls the service through the client that openapi-generator makes for Java's own HTTP client. */
public class Calls {
  static ConvForwardRequest request(FlatTensor input) {
    return new ConvForwardRequest().input(input).weight(List.of(List.of(List.of(List.of(1)))));
  }

  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri(arguments[0]);
    ObjectMapper mapper = client.getObjectMapper();
    ConvApi conv = new ConvApi(client);
    PoolApi pool = new PoolApi(client);

    FlatTensor flat = new FlatTensor().dtype(Dtype.FLOAT64).shape(List.of(1L, 1L, 1L, 1L)).data(List.of(16777217.0));
    ConvForwardResult result = conv.convForward(
        request(flat).bias(List.of(0.5)).dataFormat(DataFormat.NCHW).stride(List.of(1, 1)).padding("same"),
        null, null, null, null, null, null, null, null, null);

    PoolBackwardResult gradients = pool.poolBackward(
        new PoolBackwardRequest()
            .gradOutput(List.of(List.of(List.of(List.of(3)))))
            .input(List.of(List.of(List.of(List.of(1), List.of(2)), List.of(List.of(4), List.of(3)))))
            .mode(Mode.MAX)
            .kernelSize(2),
        null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);

    ShapeResponse shape = conv.convShape(
        new ConvShapeRequest()
            .shapes(new ConvShapes().input(List.of(512L, 56L, 56L, 64L)).weight(List.of(3L, 3L, 64L, 64L)))
            .padding("same"));

    Problem problem = null;
    try {
      conv.convForward(request(flat).stride(0), null, null, null, null, null, null, null, null, null);
    } catch (ApiException error) {
      problem = mapper.readValue(error.getResponseBody(), Problem.class);
    }

    System.out.println(mapper.writeValueAsString(Map.of(
        "output", mapper.convertValue(result.getOutput(), FlatTensor.class).getData(),
        "grad_input", gradients.getGradInput(),
        "multiply_accumulates", shape.getMultiplyAccumulates(),
        "problem", List.of(problem.getStatus(), problem.getErrors().get(0).getPointer()))));
  }
}
