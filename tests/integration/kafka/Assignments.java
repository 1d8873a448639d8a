import java.nio.ByteBuffer;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.*;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.*;

/**
 * What Kafka's own assignors answer. A case is a line: assignor, TAB, topics as name=count,…, then for each member TAB
 * id;instance or -;subscription in hexadecimal. For each a line comes out: member=assignment in hexadecimal, by member.
 */
public class Assignments {
    public static void main(String[] arguments) {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            System.out.println(answer(lines.nextLine().split("\t")));
        }
    }

    static String answer(String[] words) {
        ConsumerPartitionAssignor assignor = switch (words[0]) {
            case "range" -> new RangeAssignor();
            case "roundrobin" -> new RoundRobinAssignor();
            case "sticky" -> new StickyAssignor();
            default -> new CooperativeStickyAssignor();
        };
        Map<String, Subscription> members = new HashMap<>();
        for (int i = 2; i < words.length; i++) {
            String[] fields = words[i].split(";");
            byte[] bytes = HexFormat.of().parseHex(fields[2]);
            Subscription subscription = ConsumerProtocol.deserializeSubscription(ByteBuffer.wrap(bytes));
            subscription.setGroupInstanceId(fields[1].equals("-") ? Optional.empty() : Optional.of(fields[1]));
            members.put(fields[0], subscription);
        }
        Map<String, Assignment> found = assignor.assign(cluster(words[1]), new GroupSubscription(members)).groupAssignment();
        return new TreeMap<>(found).entrySet().stream()
            .map(entry -> entry.getKey() + "=" + HexFormat.of().formatHex(bytes(entry.getValue())))
            .collect(Collectors.joining(" "));
    }

    static byte[] bytes(Assignment assignment) {
        ByteBuffer buffer = ConsumerProtocol.serializeAssignment(assignment);
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static Cluster cluster(String topics) {
        List<PartitionInfo> partitions = new ArrayList<>();
        for (String topic : topics.split(",")) {
            String[] pair = topic.split("=");
            for (int number = 0; number < Integer.parseInt(pair[1]); number++) {
                partitions.add(new PartitionInfo(pair[0], number, Node.noNode(), new Node[0], new Node[0]));
            }
        }
        return new Cluster("c", List.of(), partitions, Set.of(), Set.of());
    }
}
