// Prints messages as Kafka's own classes write them: those that the other judges do not know yet.

import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

public class Messages {
    static void print(Message message, int version) {
        var cache = new ObjectSerializationCache();
        var buffer = new ByteBufferAccessor(java.nio.ByteBuffer.allocate(message.size(cache, (short) version)));
        message.write(buffer, cache, (short) version);
        String name = message.getClass().getSimpleName().replace("Data", "");
        System.out.println(name + " " + version + " " + HexFormat.of().formatHex(buffer.buffer().array()));
    }

    public static void main(String[] args) {
        var topicId = new Uuid(1, 2);
        print(new TxnOffsetCommitRequestData()
            .setTransactionalId("t").setGroupId("g").setProducerId(7).setProducerEpoch((short) 3)
            .setGenerationIdOrMemberEpoch(5).setMemberId("m").setGroupInstanceId("i")
            .setTopics(List.of(new TxnOffsetCommitRequestData.TxnOffsetCommitRequestTopic().setTopicId(topicId)
                .setPartitions(List.of(new TxnOffsetCommitRequestData.TxnOffsetCommitRequestPartition()
                    .setPartitionIndex(1).setCommittedOffset(9).setCommittedLeaderEpoch(4)
                    .setCommittedMetadata("meta"))))), 6);
        print(new TxnOffsetCommitResponseData().setThrottleTimeMs(2)
            .setTopics(List.of(new TxnOffsetCommitResponseData.TxnOffsetCommitResponseTopic().setTopicId(topicId)
                .setPartitions(List.of(new TxnOffsetCommitResponseData.TxnOffsetCommitResponsePartition()
                    .setPartitionIndex(1).setErrorCode((short) 25))))), 6);
        var groups = new DeleteGroupsResponseData.DeletableGroupResultCollection();
        groups.add(new DeleteGroupsResponseData.DeletableGroupResult()
            .setGroupId("g").setErrorCode((short) 68).setErrorMessage("in use"));
        print(new DeleteGroupsResponseData().setThrottleTimeMs(2).setResults(groups), 3);
        print(new DeleteGroupsRequestData().setGroupsNames(List.of("g", "h")), 3);
        var versions = new ApiVersionsResponseData.ApiVersionCollection();
        versions.add(new ApiVersionsResponseData.ApiVersion().setApiKey((short) 3).setMinVersion((short) 0)
            .setMaxVersion((short) 13));
        var features = new ApiVersionsResponseData.SupportedFeatureKeyCollection();
        features.add(new ApiVersionsResponseData.SupportedFeatureKey().setName("group.version")
            .setMinVersion((short) 0).setMaxVersion((short) 1));
        var finalized = new ApiVersionsResponseData.FinalizedFeatureKeyCollection();
        finalized.add(new ApiVersionsResponseData.FinalizedFeatureKey().setName("group.version")
            .setMaxVersionLevel((short) 1).setMinVersionLevel((short) 1));
        print(new ApiVersionsResponseData().setErrorCode((short) 129).setApiKeys(versions)
            .setSupportedFeatures(features).setFinalizedFeaturesEpoch(6).setFinalizedFeatures(finalized)
            .setZkMigrationReady(true), 5);
        print(new ApiVersionsRequestData().setClientSoftwareName("s").setClientSoftwareVersion("1")
            .setClusterId("c").setNodeId(4), 5);
    }
}
