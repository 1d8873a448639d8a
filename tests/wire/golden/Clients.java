// Makes Kafka's own clients send what they send; run by record.py.

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

public class Clients {
    interface Step {
        void run() throws Exception;
    }

    /** The recorder's answers satisfy few clients to the end; what counts is what they sent. */
    static void attempt(Step step) {
        try {
            step.run();
        } catch (Exception e) {
            System.err.println(e.getClass().getSimpleName() + ": " + e.getMessage());
        }
    }

    static void get(KafkaFuture<?> future) {
        attempt(() -> future.get(3, TimeUnit.SECONDS));
    }

    public static void main(String[] args) {
        Map<String, Object> base = Map.of("bootstrap.servers", args[0], "client.id", "golden");
        String topic = args[1];
        produce(base, topic);
        consume(base, topic, "classic");
        consume(base, topic, "consumer");
        administer(base, topic);
        System.exit(0);
    }

    static Map<String, Object> with(Map<String, Object> base, Object... pairs) {
        var config = new java.util.HashMap<>(base);
        for (int i = 0; i < pairs.length; i += 2) {
            config.put((String) pairs[i], pairs[i + 1]);
        }
        return config;
    }

    static void produce(Map<String, Object> base, String topic) {
        var bytes = new ByteArraySerializer();
        var record = new ProducerRecord<byte[], byte[]>(topic, "k".getBytes(), "v".getBytes());
        try (var producer = new KafkaProducer<>(with(base, "max.block.ms", 3000), bytes, bytes)) {
            attempt(() -> producer.send(record).get(3, TimeUnit.SECONDS));
        }
        var producer = new KafkaProducer<>(with(base, "transactional.id", "t", "max.block.ms", 3000), bytes, bytes);
        attempt(producer::initTransactions);
        attempt(producer::beginTransaction);
        attempt(() -> producer.send(record).get(3, TimeUnit.SECONDS));
        attempt(() -> producer.sendOffsetsToTransaction(
            Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(3)), new ConsumerGroupMetadata("g")));
        attempt(producer::abortTransaction);
        producer.close(Duration.ZERO);
    }

    static void consume(Map<String, Object> base, String topic, String protocol) {
        var bytes = new ByteArrayDeserializer();
        var config = with(base, "group.id", "g", "group.protocol", protocol, "default.api.timeout.ms", 3000);
        var consumer = new KafkaConsumer<>(config, bytes, bytes);
        attempt(() -> consumer.subscribe(List.of(topic)));
        attempt(() -> consumer.poll(Duration.ofSeconds(2)));
        attempt(() -> consumer.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(3, "metadata"))));
        attempt(() -> consumer.close(CloseOptions.timeout(Duration.ofSeconds(1))));
    }

    static void administer(Map<String, Object> base, String topic) {
        var partition = new TopicPartition(topic, 0);
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var set = new AlterConfigOp(new ConfigEntry("retention.ms", "1000"), AlterConfigOp.OpType.SET);
        try (var admin = Admin.create(with(base, "default.api.timeout.ms", 3000, "request.timeout.ms", 2000))) {
            get(admin.createTopics(List.of(new NewTopic("new", 3, (short) 1).configs(Map.of("a", "b")))).all());
            get(admin.describeTopics(List.of(topic)).allTopicNames());
            get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
            get(admin.describeConfigs(List.of(resource)).all());
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all());
            get(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(5))).all());
            get(admin.listOffsets(Map.of(partition, OffsetSpec.latest())).all());
            get(admin.describeCluster().clusterId());
            get(admin.describeLogDirs(List.of(1)).allDescriptions());
            get(admin.describeProducers(List.of(partition)).all());
            get(admin.listTransactions().all());
            get(admin.describeTransactions(Set.of("t")).all());
            get(admin.listGroups().all());
            get(admin.listConfigResources().all());
            get(admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).all());
            get(admin.alterPartitionReassignments(
                Map.of(partition, java.util.Optional.of(new NewPartitionReassignment(List.of(1, 2))))).all());
            get(admin.listPartitionReassignments().reassignments());
            get(admin.describeConsumerGroups(List.of("g")).all());
            get(admin.describeClassicGroups(List.of("g")).all());
            get(admin.deleteConsumerGroupOffsets("g", Set.of(partition)).all());
            get(admin.deleteConsumerGroups(List.of("g")).all());
            get(admin.deleteTopics(List.of("new")).all());
        }
    }
}
