// Kafka's own record classes as a judge: `write FOLDER` makes a batch in each codec, a file with the codec's name;
// `read FILE` prints the records of one.
// Run as a source file with Kafka's jars on the class path.

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.Utils;

public class Batches {
    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("write")) {
            for (CompressionType codec : CompressionType.values()) {
                write(codec, Path.of(arguments[1], codec.name));
            }
        } else {
            read(Path.of(arguments[1]));
        }
    }

    // 3,000 records of 100 bytes and more: several blocks of every codec
    static void write(CompressionType codec, Path file) throws Exception {
        Compression compression = Compression.of(codec).build();
        MemoryRecordsBuilder builder = MemoryRecords.builder(
            ByteBuffer.allocate(1 << 20), compression, TimestampType.CREATE_TIME, 0L);
        for (int index = 0; index < 3000; index++) {
            byte[] key = index % 3 == 0 ? null : ("key-" + index).getBytes();
            byte[] value = index % 5 == 0 ? null : ("value-" + index + "-").repeat(8).getBytes();
            Header[] headers = index % 7 == 0
                ? new Header[] {new RecordHeader("h", new byte[] {1}), new RecordHeader("h", null)}
                : new Header[0];
            builder.append(1_700_000_000_000L + index % 11, key, value, headers);
        }
        Files.write(file, Utils.toArray(builder.build().buffer()));
    }

    static void read(Path file) throws Exception {
        HexFormat hex = HexFormat.of();
        for (RecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file))).batches()) {
            batch.ensureValid();
            for (Record record : batch) {
                record.ensureValid();
                StringBuilder line = new StringBuilder();
                line.append(record.offset()).append(' ').append(record.timestamp());
                line.append(' ').append(text(hex, record.key())).append(' ').append(text(hex, record.value()));
                for (Header header : record.headers()) {
                    byte[] value = header.value();
                    line.append(' ').append(header.key()).append('=').append(value == null ? "-" : hex.formatHex(value));
                }
                System.out.println(line);
            }
        }
    }

    static String text(HexFormat hex, ByteBuffer bytes) {
        return bytes == null ? "-" : "x" + hex.formatHex(Utils.toArray(bytes));
    }
}
