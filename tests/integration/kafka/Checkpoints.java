import java.io.File;
import java.util.TreeMap;

import org.apache.kafka.storage.internals.checkpoint.OffsetCheckpointFile;

/** Prints what Kafka takes offset checkpoints to say, the files in order: one line "FILE TOPIC-PARTITION OFFSET" each. */
public class Checkpoints {
    public static void main(String[] paths) throws Exception {
        for (String path : paths) {
            File file = new File(path);
            var offsets = new TreeMap<String, Long>();
            new OffsetCheckpointFile(file, null).read().forEach((key, offset) -> offsets.put(key.toString(), offset));
            offsets.forEach((key, offset) -> System.out.println(file.getName() + " " + key + " " + offset));
        }
    }
}
