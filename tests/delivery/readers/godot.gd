# Loads what plan.json names and prints what Godot makes of it: pixels as PNG, facts as JSON.
extends Node


func _ready() -> void:
	var plan: Dictionary = JSON.parse_string(FileAccess.get_file_as_string("res://plan.json"))
	var kept := []  # else a page would be freed before its frames are loaded
	for path: String in plan.pages:
		var image := Image.new()
		image.load_png_from_buffer(FileAccess.get_file_as_bytes(path))
		var texture := ImageTexture.create_from_image(image)
		texture.take_over_path(path)  # stands for the import, which only the editor does
		kept.append(texture)
	var views := {}
	for frame: String in plan.frames:
		views[frame] = _view_of(_sprite(load(plan.frames[frame])), load(plan.frames[frame]).get_size())
	var report := {"frames": {}, "boxes": {}, "clips": {}, "version": Engine.get_version_info().string}
	if plan.tileset:
		views["tiles"] = _tiles(load(plan.tileset), plan.tiles)
	await RenderingServer.frame_post_draw
	for frame: String in views:
		var png: PackedByteArray = views[frame].get_texture().get_image().save_png_to_buffer()
		report.frames[frame] = Marshalls.raw_to_base64(png)
	for box: String in plan.boxes:
		report.boxes[box] = _margins(load(plan.boxes[box]))
	if plan.clips:
		report.clips = _clips(load(plan.clips))
	print("REPORT " + JSON.stringify(report))


func _view_of(node: Node2D, size: Vector2) -> SubViewport:
	var view := SubViewport.new()
	view.size = Vector2i(size)
	view.transparent_bg = true
	view.render_target_update_mode = SubViewport.UPDATE_ALWAYS
	node.texture_filter = CanvasItem.TEXTURE_FILTER_NEAREST
	view.add_child(node)
	add_child(view)
	return view


func _sprite(texture: Texture2D) -> Sprite2D:
	var sprite := Sprite2D.new()
	sprite.centered = false
	sprite.texture = texture
	return sprite


func _tiles(tiles: TileSet, shown: Array) -> SubViewport:
	var layer := TileMapLayer.new()
	layer.tile_set = tiles
	for i in shown.size():
		layer.set_cell(Vector2i(i, 0), shown[i][0], Vector2i(shown[i][1], shown[i][2]))
	return _view_of(layer, Vector2(tiles.tile_size.x * shown.size(), tiles.tile_size.y))


func _margins(box: StyleBoxTexture) -> Array:
	return [SIDE_LEFT, SIDE_TOP, SIDE_RIGHT, SIDE_BOTTOM].map(box.get_texture_margin)


func _clips(clips: SpriteFrames) -> Dictionary:
	var seen := {}
	for clip in clips.get_animation_names():
		var frames := range(clips.get_frame_count(clip)).map(
			func(i: int) -> String: return clips.get_frame_texture(clip, i).resource_path.get_file()
		)
		seen[clip] = {
			"fps": clips.get_animation_speed(clip),
			"loop": clips.get_animation_loop(clip),
			"frames": frames,
		}
	return seen
