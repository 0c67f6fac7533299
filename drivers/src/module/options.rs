//! What the kernel's command line says about modules.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
};

use crate::module::alias::normalised;

/// Parameters by module, and modules not to load for a device.
#[derive(Default)]
pub(crate) struct ModuleOptions {
    parameters: HashMap<String, String>,
    blacklist: HashSet<String>,
}

impl ModuleOptions {
    /// Heeds `module.parameter[=value]` and `modprobe.blacklist=a,b`.
    pub(crate) fn parse(command_line: &str) -> Self {
        let mut options = Self::default();
        for word in command_line.split_whitespace() {
            if let Some(names) = word.strip_prefix("modprobe.blacklist=") {
                options.blacklist.extend(names.split(',').map(normalised));
            } else if let Some((module, parameter)) = module_parameter(word) {
                let all = options.parameters.entry(normalised(module)).or_default();
                if !all.is_empty() {
                    all.push(' ');
                }
                all.push_str(parameter);
            }
        }
        options
    }

    pub(crate) fn is_blacklisted(&self, name: &str) -> bool {
        self.blacklist.contains(name)
    }

    pub(crate) fn parameters(&self, name: &str) -> CString {
        let text = self.parameters.get(name).map_or("", String::as_str);
        // /proc/cmdline holds no NUL; were there one, no parameters are better than wrong ones.
        CString::new(text).unwrap_or_default()
    }
}

/// `e1000.debug=3` is the parameter `debug=3` of `e1000`; a dot in a value makes no module.
fn module_parameter(word: &str) -> Option<(&str, &str)> {
    let (module, parameter) = word.split_once('.')?;
    let named = !module.is_empty() && !parameter.is_empty() && !module.contains('=');
    named.then_some((module, parameter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_the_black_list_are_found_among_other_words() {
        let options = ModuleOptions::parse(
            "root=/dev/x.y usb-storage.quirks=1:2:u usb_storage.delay_use=0 modprobe.blacklist=a-b,c",
        );
        let parameters = options.parameters("usb_storage");
        assert_eq!(parameters.to_str().unwrap(), "quirks=1:2:u delay_use=0");
        assert!(options.parameters("root=/dev/x").is_empty());
        assert!(options.is_blacklisted("a_b") && options.is_blacklisted("c"));
        assert!(!options.is_blacklisted("b"));
    }
}
