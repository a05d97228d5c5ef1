internal import CLinux
internal import CSystemd
public import Logging

/// The log handler of tdxd's programs. Values behave as swift-log wants: each logger has its own level and metadata.
public struct ServiceLogHandler: LogHandler {
    public var logLevel: Logger.Level
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?

    /// The logger's name.
    public let label: String
    /// SYSLOG_IDENTIFIER: the program.
    public let identifier: String
    public let destination: LogDestination

    public init(
        label: String, identifier: String, level: Logger.Level = .info, destination: LogDestination,
        metadataProvider: Logger.MetadataProvider? = nil
    ) {
        self.label = label
        self.identifier = identifier
        logLevel = level
        self.destination = destination
        self.metadataProvider = metadataProvider
    }

    /// Makes every logger of the process use this handler. Once per process, before the first logger.
    public static func bootstrap(
        identifier: String, level: Logger.Level, destination: LogDestination = .detect()
    ) {
        LoggingSystem.bootstrap { label in
            ServiceLogHandler(label: label, identifier: identifier, level: level, destination: destination)
        }
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        var all = metadata
        if let provided = metadataProvider?.get() { all.merge(provided) { $1 } }
        if let own = event.metadata { all.merge(own) { $1 } }
        let record = LogRecord(
            label: label, identifier: identifier, level: event.level, message: event.message.description,
            metadata: all.map { (key: $0.key, value: $0.value.description) }.sorted { $0.key < $1.key },
            file: event.file, function: event.function, line: event.line)
        write(record)
    }

    private func write(_ record: LogRecord) {
        switch destination {
        case .journal:
            let fields = record.journalFields
            let lengths = fields.map(\.utf8.count)
            let result = Array(fields.joined().utf8).withUnsafeBytes { bytes in
                tdxd_journal_send(bytes.baseAddress?.assumingMemoryBound(to: CChar.self), lengths, Int32(lengths.count))
            }
            // The journal may be restarting, or the record too large: nothing is lost that standard error can take.
            if result < 0 { Self.writeLine("<\(record.priority)>" + record.text) }
        case .prefixedStandardError:
            Self.writeLine("<\(record.priority)>" + record.text)
        case .plainStandardError:
            Self.writeLine("\(Self.now()) \(record.level.rawValue) \(record.identifier): " + record.text)
        }
    }

    /// One write for the whole line, so that lines of several threads do not mix. A full pipe loses the line.
    private static func writeLine(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        bytes.withUnsafeBytes { _ = tdxd_write(2, $0.baseAddress, $0.count) }
    }

    private static func now() -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { text in
            tdxd_format_now(text.baseAddress)
            return String(cString: text.baseAddress!)
        }
    }
}
