internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

extension TDXDConfiguration {
    /// Where the system's configuration is.
    public static let systemFile = "/etc/tdxd/tdxd.conf"

    /// Reads `file`, then every `*.conf` in the folder `<file>.d` in the order of their names; later files win.
    ///
    /// - Parameter file: nil for `systemFile`, which may be missing; a file that is named must exist. The folder may be
    ///   missing always. Anything that is not understood is an error, and so is anything that is no regular file.
    public init(loading file: String? = nil) throws(ConfigurationError) {
        let main = file ?? Self.systemFile
        var documents: [INIDocument] = []
        if let bytes = try Self.read(main, mayBeMissing: file == nil) {
            documents.append(try INIDocument(parsing: bytes, file: main))
        }
        for name in try Self.dropIns(in: main + ".d") {
            guard let bytes = try Self.read(name, mayBeMissing: true) else { continue }
            documents.append(try INIDocument(parsing: bytes, file: name))
        }
        try self.init(documents)
    }

    /// The defaults, changed by each document in turn.
    public init(_ documents: [INIDocument]) throws(ConfigurationError) {
        self.init()
        var origins: [String: (file: String, line: Int)] = [:]
        for document in documents {
            for assignment in document.assignments {
                try apply(assignment, of: document.file)
                origins["\(assignment.section).\(assignment.key)"] = (document.file, assignment.line)
            }
        }
        func conflict(_ keys: [String], _ message: String) -> ConfigurationError {
            let origin = keys.lazy.compactMap { origins[$0] }.first
            return ConfigurationError(.conflict, file: origin?.file ?? "defaults", line: origin?.line, message: message)
        }
        guard memory.releaseChunk <= memory.shardMinimum else {
            throw conflict(
                ["memory.release_chunk", "memory.shard_minimum"],
                "release_chunk \(memory.releaseChunk) is larger than shard_minimum \(memory.shardMinimum)")
        }
        guard limits.connectionsPerUser <= limits.connections else {
            throw conflict(
                ["limits.connections_per_user", "limits.connections"],
                "connections_per_user \(limits.connectionsPerUser) is larger than connections \(limits.connections)")
        }
        try checkRoles(conflict)
    }

    /// A user with two roles is a mistake of one line or the other.
    private func checkRoles(_ conflict: (_ keys: [String], _ message: String) -> ConfigurationError)
        throws(ConfigurationError)
    {
        let roles = [
            ("admin_users", access.adminUsers), ("operate_users", access.operateUsers),
            ("observe_users", access.observeUsers),
        ]
        for (index, (key, users)) in roles.enumerated() {
            for (laterKey, laterUsers) in roles[(index + 1)...] {
                guard let twice = users.first(where: { laterUsers.contains($0) }) else { continue }
                throw conflict(
                    ["access.\(laterKey)", "access.\(key)"], "user \(twice) is both in \(key) and in \(laterKey)")
            }
        }
    }

    private mutating func apply(
        _ assignment: INIDocument.Assignment, of file: String
    ) throws(ConfigurationError) {
        let sections = Set(Setting.all.map(\.section))
        guard sections.contains(assignment.section) else {
            throw ConfigurationError(
                .unknownSection, file: file, line: assignment.line,
                message: "unknown section [\(assignment.section)]"
                    + suggestion(for: assignment.section, among: sections.sorted()))
        }
        let candidates = Setting.all.filter { $0.section == assignment.section }
        guard let setting = candidates.first(where: { $0.key == assignment.key }) else {
            // A key of another section is more likely misplaced than misspelt.
            let elsewhere = Setting.all.first { $0.key == assignment.key }
            throw ConfigurationError(
                .unknownKey, file: file, line: assignment.line,
                message: "unknown key “\(assignment.key)” in [\(assignment.section)]"
                    + (elsewhere.map { "; it belongs in [\($0.section)]" }
                        ?? suggestion(for: assignment.key, among: candidates.map(\.key))))
        }
        do {
            try setting.read(&self, assignment.value ?? setting.text(in: Self()).unquoted)
        } catch {
            throw ConfigurationError(
                .badValue, file: file, line: assignment.line,
                message: "\(setting.key) is “\(assignment.value ?? "")”; it must be \(error.expected)")
        }
    }

    private static func dropIns(in folder: String) throws(ConfigurationError) -> [String] {
        do {
            let names = try TextFile.list(folder)
            return names.filter { $0.hasSuffix(".conf") && !$0.hasPrefix(".") }.sorted().map { folder + "/" + $0 }
        } catch {
            if error.errno == .noSuchFileOrDirectory { return [] }
            throw ConfigurationError(.unreadable, file: folder, message: "\(error)")
        }
    }

    private static func read(_ path: String, mayBeMissing: Bool) throws(ConfigurationError) -> [UInt8]? {
        do {
            // Without blocking: opening a FIFO would otherwise wait for its writer.
            let file = try OwnedDescriptor.open(path: path, .readOnly, nonBlocking: true)
            guard try file.status().kind == .regular else {
                throw ConfigurationError(.notAFile, file: path, message: "not a regular file")
            }
            let bytes = try file.read(count: INIDocument.maximumSize + 1, at: .zero)
            guard bytes.count <= INIDocument.maximumSize else {
                throw ConfigurationError(
                    .tooLarge, file: path, message: "more than \(INIDocument.maximumSize) bytes")
            }
            return bytes
        } catch let error as ConfigurationError {
            throw error
        } catch let error as LinuxError {
            if mayBeMissing && error.errno == .noSuchFileOrDirectory { return nil }
            throw ConfigurationError(.unreadable, file: path, message: "\(error)")
        } catch {
            throw ConfigurationError(.unreadable, file: path, message: "\(error)")
        }
    }
}

extension String {
    fileprivate var unquoted: String { self == "\"\"" ? "" : self }
}

/// “; did you mean …?” with the nearest candidate, or all of them when none is near.
func suggestion(for text: String, among candidates: [String]) -> String {
    guard let nearest = nearestName(to: text, among: candidates) else {
        return "; known are " + candidates.joined(separator: ", ")
    }
    return "; did you mean “\(nearest)”?"
}
