import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Sends a convolution as JSON with the default HttpClient, which offers "Upgrade: h2c", and prints the answer. */
public class ConvForward {
    public static void main(String[] arguments) throws Exception {
        String body = """
            {"padding": "same",
             "input": [[[[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]]]],
             "weight": [[[[1]], [[0]]], [[[0]], [[-1]]]],
             "bias": [0.5]}
            """;
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/conv/forward"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> response =
            HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(response.body());
        System.exit(response.statusCode() == 200 ? 0 : 1);
    }
}
