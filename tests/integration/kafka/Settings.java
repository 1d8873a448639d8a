import java.util.*;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.*;
import org.apache.kafka.storage.internals.log.LogConfig;

/** Every setting that Kafka knows, as its own classes define it: one JSON object a line. */
public class Settings {
    static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Map<String, String> modes = DynamicBrokerConfig.dynamicConfigUpdateModes();
        for (ConfigDef.ConfigKey key : AbstractKafkaConfig.CONFIG_DEF.configKeys().values()) {
            print("broker", key, Map.of(
                "mode", modes.getOrDefault(key.name, "read-only"),
                "synonyms", DynamicBrokerConfig.brokerConfigSynonyms(key.name, false)));
        }
        Map<String, List<ConfigSynonym>> synonyms = ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS;
        for (ConfigDef.ConfigKey key : LogConfig.configKeys().values()) {
            List<String> behind = synonyms.getOrDefault(key.name, List.of()).stream().map(ConfigSynonym::name).toList();
            print("topic", key, Map.of("synonyms", behind));
        }
        for (ConfigDef.ConfigKey key : GroupConfig.CONFIG_DEF.configKeys().values()) {
            List<String> behind = GroupConfig.brokerSynonym(key.name).map(List::of).orElse(List.of());
            print("group", key, Map.of("synonyms", behind));
        }
    }

    static void print(String resource, ConfigDef.ConfigKey key, Map<String, Object> more) throws Exception {
        Map<String, Object> row = new TreeMap<>(more);
        row.put("resource", resource);
        row.put("name", key.name);
        row.put("type", key.type.name().toLowerCase());
        row.put("is_required", !key.hasDefault());
        row.put("default", key.hasDefault() ? ConfigDef.convertToString(key.defaultValue, key.type) : null);
        row.put("accepts", key.validator == null ? null : key.validator.toString());
        row.put("documentation", key.documentation);
        row.put("is_internal", key.internalConfig);
        System.out.println(JSON.writeValueAsString(row));
    }
}
