internal import LinuxSystem
public import MemoryUnits
public import VMMTerms

/// What an engine is made with.
public struct EngineConfiguration: Sendable {
    /// Where private memory is.
    public enum Backing: Hashable, Sendable {
        /// guest_memfds of the real VM where the kernel lets them be mapped (Linux 6.17 and later), memfds elsewhere.
        case automatic
        case guestMemfd
        case memfd
    }

    /// What the guest's vCPUs do.
    public enum Guest: Hashable, Sendable {
        case behaviour(GuestBehaviour)
        /// A script and its name, for reports.
        case script(GuestScript, name: String)
    }

    public var backing: Backing
    public var guest: Guest
    /// Key ids that TDs may get. A VMM's reset needs two for a moment.
    public var keyIDs: [KeyID]
    /// Writes every call of the software module to this file, as lines of JSON; nil for none.
    public var trace: String?

    public init(
        backing: Backing = .automatic, guest: Guest = .behaviour(.idle), keyIDs: [KeyID] = [KeyID(33), KeyID(34)],
        trace: String? = nil
    ) {
        self.backing = backing
        self.guest = guest
        self.keyIDs = keyIDs
        self.trace = trace
    }
}

extension EngineConfiguration.Guest {
    /// A behaviour by name, or a script by path.
    /// - Throws: `EngineError` for a script that cannot be read or is not understood.
    public static func read(_ text: String) throws(EngineError) -> Self {
        if let behaviour = GuestBehaviour(rawValue: text) { return .behaviour(behaviour) }
        let script: String
        do throws(LinuxError) {
            script = try TextFile.read(text)
        } catch {
            throw EngineError(description: "the guest \(text): \(error)")
        }
        do throws(GuestScriptErrors) {
            return .script(try GuestScript(parsing: script), name: text)
        } catch {
            throw EngineError(description: "the guest \(text): \(error)")
        }
    }
}

/// Why an engine could not be made, in words.
public struct EngineError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String

    public init(description: String) { self.description = description }
}
