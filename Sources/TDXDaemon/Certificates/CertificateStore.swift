internal import ControlInterface
internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// Teardown certificates on disk: one JSON file each, `NAME-ID.json`, written before it is announced.
struct CertificateStore: Sendable {
    let directory: String
    /// Certificates that are kept; beyond it the oldest go.
    let retained: Int
    /// Certificates that were last written more days ago than this go, too; nil for none.
    let days: Int?

    init(directory: String, retained: Int = 1000, days: Int? = nil) {
        self.directory = directory
        self.retained = retained
        self.days = days
    }

    static func fileName(of certificate: TeardownCertificate) -> String {
        fileName(name: certificate.name, id: certificate.id)
    }

    static func fileName(name: String, id: String) -> String { "\(name)-\(id).json" }

    /// Writes the certificate durably; one of the same TD is replaced.
    /// - Parameter needed: names of files that stay, however many and old.
    func write(_ certificate: TeardownCertificate, keeping needed: Set<String> = []) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        var bytes = Array(try encoder.encode(certificate))
        bytes.append(UInt8(ascii: "\n"))
        try DurableFile.write(bytes, name: Self.fileName(of: certificate), in: directory)
        prune(keeping: needed)
    }

    /// The certificate of a TD; nil when there is none.
    func read(name: String, id: String) throws -> TeardownCertificate? {
        try read(file: Self.fileName(name: name, id: id))
    }

    /// Every certificate that can be read, the latest first.
    ///
    /// - Parameter onFlaw: gets each file that cannot.
    func all(onFlaw: (String) -> Void = { _ in }) -> [TeardownCertificate] {
        names().compactMap { readable($0, onFlaw: onFlaw) }.sorted { $0.startedAt > $1.startedAt }
    }

    /// The certificate of the TD with that id; otherwise the latest of the TDs with that name; nil when there is neither.
    func find(_ idOrName: String, onFlaw: (String) -> Void = { _ in }) -> TeardownCertificate? {
        // Both may contain a hyphen, so that a file's name only narrows the search.
        let candidates = names().filter { $0.hasPrefix(idOrName + "-") || $0.hasSuffix("-\(idOrName).json") }
            .compactMap { readable($0, onFlaw: onFlaw) }.sorted { $0.startedAt > $1.startedAt }
        return candidates.first { $0.id == idOrName } ?? candidates.first { $0.name == idOrName }
    }

    private func readable(_ file: String, onFlaw: (String) -> Void) -> TeardownCertificate? {
        do { return try read(file: file) } catch {
            onFlaw("\(file): \(error)")
            return nil
        }
    }

    private func read(file: String) throws -> TeardownCertificate? {
        let bytes: [UInt8]
        do throws(LinuxError) {
            bytes = try DurableFile.read(path: "\(directory)/\(file)")
        } catch {
            if error.errno == .noSuchFileOrDirectory { return nil }
            throw error
        }
        return try JSONDecoder().decode(TeardownCertificate.self, from: Data(bytes))
    }

    /// File names, the oldest first.
    func names() -> [String] { files().map(\.name) }

    /// Files and when they were last written, the oldest first.
    private func files() -> [(time: timespec, name: String)] {
        var found: [(time: timespec, name: String)] = []
        for name in DirectoryTree.names(in: directory) where name.hasSuffix(".json") {
            var status = stat()
            guard lstat("\(directory)/\(name)", &status) == 0 else { continue }
            found.append((status.st_mtim, name))
        }
        return found.sorted { ($0.time.tv_sec, $0.time.tv_nsec, $0.name) < ($1.time.tv_sec, $1.time.tv_nsec, $1.name) }
    }

    /// Removes what is too old and what is too much, the oldest first.
    /// - Parameter needed: names of files that stay, however many and old.
    /// - Returns: how many went.
    @discardableResult
    func prune(keeping needed: Set<String> = [], now: WallTime = .now) -> Int {
        let all = files()
        let excess = all.count - retained
        let oldest = days.map { now.nanoseconds / 1_000_000_000 - Int64($0) * 86_400 }
        let gone = all.enumerated().filter { index, file in
            guard !needed.contains(file.name) else { return false }
            return index < excess || oldest.map { Int64(file.time.tv_sec) < $0 } ?? false
        }
        return gone.count { unlink("\(directory)/\($0.element.name)") == 0 }
    }
}
