internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

extension TDXDConfiguration {
    /// Where the system's configuration is.
    public static let systemFile = "/etc/tdxd/tdxd.conf"

    /// Reads `file`, then every `*.conf` in the folder `<file>.d` in the order of their names; later files win.
    ///
    /// - Parameter file: nil for `systemFile`, which may be missing; a file that is named must exist. The folder may be
    ///   missing always. Anything that is not understood is an error, and so is anything but a regular file.
    /// - Throws: the first mistake; `examine` gives all of them.
    public init(loading file: String? = nil) throws(ConfigurationError) {
        let examination = Self.examine(file)
        if let mistake = examination.mistakes.first { throw mistake }
        self = examination.configuration
    }

    /// What configuration files come to, with every mistake in them.
    public struct Examination: Sendable {
        /// The settings, without those that are mistakes.
        public var configuration = TDXDConfiguration()
        public var mistakes: [ConfigurationError] = []
        /// Where a setting was last set. Key: "section.key"; a setting that no file sets is not there.
        public var origins: [String: (file: String, line: Int)] = [:]

        /// Every setting with its value and where it comes from, as a file that can be read again.
        public var text: String {
            var text = ""
            var section: String?
            for setting in Setting.all {
                if setting.section != section { text += (section == nil ? "" : "\n") + "[\(setting.section)]\n" }
                section = setting.section
                let origin = origins["\(setting.section).\(setting.key)"].map { "\($0.file):\($0.line)" } ?? "default"
                text += "# \(origin)\n\(setting.key) = \(setting.text(in: configuration))\n"
            }
            return text
        }
    }

    /// Reads the same files as `init(loading:)`, and goes on after a mistake. Of a file with invalid syntax
    /// only the first mistake is found.
    public static func examine(_ file: String? = nil) -> Examination {
        let main = file ?? systemFile
        var documents: [INIDocument] = []
        var mistakes: [ConfigurationError] = []
        func add(_ path: String, mayBeMissing: Bool) {
            do throws(ConfigurationError) {
                guard let bytes = try read(path, mayBeMissing: mayBeMissing) else { return }
                documents.append(try INIDocument(parsing: bytes, file: path))
            } catch {
                mistakes.append(error)
            }
        }
        add(main, mayBeMissing: file == nil)
        do throws(ConfigurationError) {
            for name in try dropIns(in: main + ".d") { add(name, mayBeMissing: true) }
        } catch {
            mistakes.append(error)
        }
        var result = examine(documents)
        result.mistakes = mistakes + result.mistakes
        return result
    }

    /// The defaults, changed by each document in turn.
    /// - Throws: the first mistake.
    public init(_ documents: [INIDocument]) throws(ConfigurationError) {
        let examination = Self.examine(documents)
        if let mistake = examination.mistakes.first { throw mistake }
        self = examination.configuration
    }

    private static func examine(_ documents: [INIDocument]) -> Examination {
        var result = Examination()
        for document in documents {
            for assignment in document.assignments {
                do throws(ConfigurationError) {
                    try result.configuration.apply(assignment, of: document.file)
                    result.origins["\(assignment.section).\(assignment.key)"] = (document.file, assignment.line)
                } catch {
                    result.mistakes.append(error)
                }
            }
        }
        let origins = result.origins
        func conflict(_ keys: [String], _ message: String) -> ConfigurationError {
            let origin = keys.lazy.compactMap { origins[$0] }.first
            return ConfigurationError(.conflict, file: origin?.file ?? "defaults", line: origin?.line, message: message)
        }
        let memory = result.configuration.memory
        if memory.releaseChunk > memory.shardMinimum {
            result.mistakes.append(
                conflict(
                    ["memory.release_chunk", "memory.shard_minimum"],
                    "release_chunk \(memory.releaseChunk) is larger than shard_minimum \(memory.shardMinimum)"))
        }
        let limits = result.configuration.limits
        if limits.connectionsPerUser > limits.connections {
            result.mistakes.append(
                conflict(
                    ["limits.connections_per_user", "limits.connections"],
                    "connections_per_user \(limits.connectionsPerUser) is larger than connections \(limits.connections)"
                ))
        }
        do throws(ConfigurationError) { try result.configuration.checkRoles(conflict) } catch {
            result.mistakes.append(error)
        }
        return result
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
