//! The image store with the containers that use what it has.

use std::sync::Arc;

use rbox_image::{ImageStore, ImageUser, ListUsers, StoreError, Users};
use rbox_spec::mount::MountKind;

use crate::containers::{find, image_mounts};
use crate::record::container::Container;
use crate::record::paths::Paths;

/// The image store. It deletes nothing that a container stands on.
pub fn image_store(paths: &Paths) -> Result<ImageStore, StoreError> {
    Ok(ImageStore::open(&paths.image())?.with_users(Arc::new(Containers(paths.clone()))))
}

/// The containers of these directories.
#[derive(Debug)]
struct Containers(Paths);

impl ListUsers for Containers {
    fn list(&self) -> Result<Users, Box<dyn std::error::Error + Send + Sync>> {
        let mut users = Users::default();
        for id in find::ids(&self.0)? {
            match Container::read(&self.0, &id) {
                Ok(Some(container)) => {
                    let running = container.is_active();
                    let record = container.record;
                    let mounted = record.host.mounts.iter().filter_map(|mount| {
                        let MountKind::Image { name, id, layers, .. } = &mount.kind else { return None };
                        Some((id.parse(), name, layers))
                    });
                    for (image, name, layers) in mounted {
                        let Ok(image) = image else {
                            users.incomplete = true;
                            continue;
                        };
                        users.known.push(ImageUser {
                            image,
                            name: name.clone(),
                            container: id.as_str().to_owned(),
                            running,
                            mounted_at: None,
                            layers: layers.clone(),
                        });
                    }
                    // The build that it is of holds the store's lock. One of a directory uses no image.
                    if record.build_step.is_some() || record.image_id.is_empty() {
                        continue;
                    }
                    match record.image_id.parse() {
                        Ok(image) => {
                            let (container, layers) = (id.as_str().to_owned(), record.layers);
                            let name = record.image;
                            users.known.push(ImageUser {
                                image,
                                name,
                                container,
                                running,
                                mounted_at: None,
                                layers,
                            });
                        }
                        Err(_) => users.incomplete = true,
                    }
                }
                // Another process is removing it.
                Ok(None) => {}
                // What cannot be read may stand on any layer.
                Err(_) => users.incomplete = true,
            }
        }
        for mount in image_mounts::all(&self.0)? {
            // Which image it is is known, and not on which layers it stands.
            users.incomplete |= mount.is_damaged;
            users.known.push(ImageUser {
                image: mount.image,
                name: mount.name,
                container: String::new(),
                running: true,
                mounted_at: Some(mount.path),
                layers: mount.layers,
            });
        }
        Ok(users)
    }
}
